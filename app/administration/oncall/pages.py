"""Where the runbooks are, and which page belongs to an alert."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import runbooks
from app.administration.oncall.alerts import shown
from runbooks.pages import Page, PageError, read_page

FOLDER: Final = Path(runbooks.__file__).parent
_KINDS: Final = ("alerts", "procedures")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Found:
    """A page, or the sentence that says why there is none. `text` is the page's own."""

    page: Page | None = None
    text: str = ""
    why_not: str = ""


def find_page(name: str, folder: Path = FOLDER) -> Found:
    """The page of an alert, or of a procedure: `PostgresDown`, `postgres-failover`."""
    if not (folder / "alerts").is_dir():
        return Found(why_not="The runbooks are not installed here: read them in the repository, in runbooks/.")
    wanted = name.removeprefix("procedures/").removeprefix("alerts/")
    # Checked before it becomes part of a path.
    files = [folder / kind / f"{wanted}.md" for kind in _KINDS] if _NAME.fullmatch(wanted) else []
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return Found(why_not=f"There is no page for '{shown(name)}'{_near(wanted, folder)}.")
    try:
        return Found(read_page(file), file.read_text("utf-8"))
    except PageError as error:
        return Found(why_not=f"The page is not written as pages are: {error}.")


def _near(name: str, folder: Path) -> str:
    known = {file.stem.lower(): file.stem for kind in _KINDS for file in sorted((folder / kind).glob("*.md"))}
    near = difflib.get_close_matches(name.lower(), known, n=3)
    return f": did you mean {' or '.join(known[one] for one in near)}?" if near else " (names: runbooks/README.md)"
