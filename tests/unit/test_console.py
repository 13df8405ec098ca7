"""What commands print of what others wrote."""

import io

from rich.table import Table
from rich.text import Text

from app.console import PlainConsole

WRITTEN = "\x1b]0;owned\x07[red]Prices[/red] [/nothing] \x9b2J :smile:"


def shown(*what: object) -> str:
    console = PlainConsole()
    console.file = io.StringIO()
    console.width = 200
    console.print(*what)
    return console.file.getvalue()


def test_what_others_wrote_is_shown_and_never_obeyed():
    table = Table("Title")
    table.add_row(WRITTEN)
    for found in (shown(WRITTEN), shown(Text(WRITTEN)), shown(table)):
        assert "[red]Prices[/red] [/nothing]" in found
        assert ":smile:" in found
        assert not set(found) & {"\x1b", "\x07", "\x9b"}


def test_lines_of_a_text_stay_lines():
    assert shown("one\ntwo") == "one\ntwo\n"
