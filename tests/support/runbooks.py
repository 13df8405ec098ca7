"""Pages of the runbooks as they are, and what stands in them, as tests look at them."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from runbooks.pages import Language, Page, read_page

ROOT = Path(__file__).parent.parent.parent
RUNBOOKS = ROOT / "runbooks"
ALERTS = {path.stem: path for path in sorted((RUNBOOKS / "alerts").glob("*.md"))}
PROCEDURES = {path.stem: path for path in sorted((RUNBOOKS / "procedures").glob("*.md"))}
FILES = {
    **{f"alerts/{name}": path for name, path in ALERTS.items()},
    **{f"procedures/{name}": path for name, path in PROCEDURES.items()},
}
PROGRAMS = ("kubectl", "aws", "make", "trellis")
_BLOCK = re.compile(r"^ *```[^\n]*\n[\s\S]*?^ *```$", re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
# Before it stands nothing, what begins a command for a shell, a variable's value, or the folder of the program.
_BEGINS = re.compile(
    rf"(?:^\s*|[(|&;]\s*|-- |\b(?:do|then|if|sudo) |bin/|-c ['\"]|\b[A-Z_]+=\S* )({'|'.join(PROGRAMS)})(?= )"
)
_ENDS = set("();|&<>")
_PANELS = re.compile(
    r"`(trellis-[a-z]+)`(?:[:,] (?:panel )?(\*[^.;\n]*))?|\*([^*\n]+)\*,? (?:and \*([^*\n]+)\* )?on `(trellis-[a-z]+)`"
)


@cache
def pages() -> Mapping[str, Page]:
    return {name: read_page(path) for name, path in FILES.items()}


@cache
def texts() -> Mapping[str, str]:
    return {name: path.read_text() for name, path in FILES.items()}


def prose(text: str) -> str:
    """Without its blocks."""
    return _BLOCK.sub("", text)


def commands(name: str) -> Iterator[list[str]]:
    """The words of each call of `PROGRAMS`, in blocks and in what a sentence shows as a command."""
    for block in pages()[name].blocks:
        if block.language is Language.SH:
            yield from calls(block.body)
    for shown in _INLINE.findall(prose(texts()[name])):
        if shown.split()[0] in PROGRAMS:
            yield from calls(shown)


def calls(script: str) -> Iterator[list[str]]:
    """Each call in a script, also of a command in a command, without where its output goes."""
    for line in script.replace("\\\n", " ").splitlines():
        for begin in _BEGINS.finditer(line):
            yield _words(line[begin.start(1) :])


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();|&<>")
    lexer.whitespace_split, lexer.commenters = True, ""
    found: list[str] = []
    while (word := _next(lexer)) is not None and not (word and set(word) <= _ENDS) and not word.startswith("#"):
        found.append(word)
    # The number of a stream that is sent somewhere belongs to the sign behind it.
    return found[:-1] if word and word[0] == ">" and found[-1].isdigit() else found


def _next(lexer: shlex.shlex) -> str | None:
    """None at the end, also where a quote that was opened before the call closes."""
    try:
        return lexer.get_token()
    except ValueError:
        return None


@cache
def panels() -> Mapping[str, frozenset[str]]:
    """Titles of the panels of each dashboard."""

    def titles(found: list[dict[str, Any]]) -> Iterator[str]:
        for panel in found:
            yield panel.get("title", "")
            yield from titles(panel.get("panels", []))

    boards = [json.loads(path.read_text()) for path in sorted((ROOT / "dashboards" / "out").glob("*.json"))]
    return {board["uid"]: frozenset(titles(board["panels"])) for board in boards}


def named_panels(text: str) -> Iterator[tuple[str, str]]:
    """(dashboard, panel) where a sentence names both."""
    for match in _PANELS.finditer(prose(text)):
        board, listed, first, second, after = match.groups()
        if after:
            yield from ((after, title) for title in (first, second) if title)
        elif listed:
            yield from ((board, title) for title in re.findall(r"\*([^*]+)\*", listed.split(" on `")[0]))
