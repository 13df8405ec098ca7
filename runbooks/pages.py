"""Reads a runbook's page: sections, blocks to run, what a block is to answer. Imports the standard library only."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Final

SECTIONS: Final = (
    "Symptoms",
    "Impact",
    "Verify",
    "Mitigate",
    "Rollback",
    "Verify recovery",
    "Escalate",
    "Recent changes",
)
"""Of every page, in this order."""
NEVER: Final = "never"
_DRILLED: Final = re.compile(r"^Last drilled: (.+)\n?\Z", re.MULTILINE)
_HEADING: Final = re.compile(r"## (.+)")
_STEP: Final = re.compile(r"(\d+)\. ")
_FENCE: Final = re.compile(r"( *)```(.*)")
_OPENING: Final = re.compile(r'(sh|sql|promql) (verify|mutate|rollback)(?: not-run="([^"]+)")?')
_EXPECTS: Final = re.compile(r"(?:Returns|Prints) ((?:`[^`]*`|[^`;.]|[.;](?! |$))*)")
_CODE: Final = re.compile(r"`([^`]+)`")


class PageError(ValueError):
    """A page that is not written as pages are; the text names the file, the line, and what to do."""


class Language(StrEnum):
    """SH runs in bash, SQL in psql, PROMQL as an instant query of Prometheus."""

    SH = "sh"
    SQL = "sql"
    PROMQL = "promql"


class Kind(StrEnum):
    """VERIFY only reads. MUTATE changes the system. ROLLBACK takes back what was changed."""

    VERIFY = "verify"
    MUTATE = "mutate"
    ROLLBACK = "rollback"


@dataclass(frozen=True)
class Block:
    """What is to be run.

    Attributes:
        step: number of the list's step that it stands in; 0 outside of lists.
        line: of its opening fence, from 1.
        not_run: why a drill cannot run it; empty where it can.
        expects: what the sentence after it says that it returns or prints; empty where there is none.
    """

    section: str
    language: Language
    kind: Kind
    body: str
    not_run: str = ""
    step: int = 0
    line: int = 0
    expects: str = ""

    def answered_by(self, output: str) -> bool:
        """Whether the output is what the page says: `nothing`, the words in code marks (one of them, where they stand
        with `or`), else anything. True where the page says nothing of it."""
        if not self.expects:
            return True
        if self.expects.startswith("nothing"):
            return not output.strip()
        words = _CODE.findall(self.expects)
        held = [_holds(word, output) for word in words]
        if not held:
            return bool(output.strip())
        return any(held) if "` or `" in self.expects else all(held)


@dataclass(frozen=True)
class Page:
    """`name`: folder and file without ending, such as `procedures/flags`. `sections`: text of each, with its blocks.
    `last_drilled`: the last line's, `never` or the drill's own."""

    name: str
    title: str
    sections: Mapping[str, str]
    blocks: Sequence[Block]
    last_drilled: str

    def of(self, section: str) -> tuple[Block, ...]:
        return tuple(block for block in self.blocks if block.section == section)


def read_page(path: Path) -> Page:
    """Raises PageError, and OSError where there is no such file."""
    return parse_page(path.read_text("utf-8"), f"{path.parent.name}/{path.stem}")


def parse_page(text: str, name: str) -> Page:
    """Raises PageError."""
    title = text.partition("\n")[0]
    if not title.startswith("# "):
        raise PageError(f"{name}.md:1: a page begins with `# ` and its title")
    drilled = _DRILLED.search(text)
    if drilled is None:
        raise PageError(f"{name}.md: the last line must be `Last drilled: never`, or what a drill wrote there")
    body = text[: drilled.start()].splitlines()
    blocks = tuple(_blocks(body, name))
    return Page(name, title[2:].strip(), _sections(body, name), blocks, drilled[1].strip())


def stamped(text: str, drilled: str) -> str:
    """The page with another last line. Raises PageError where it has none."""
    found = _DRILLED.search(text)
    if found is None:
        raise PageError("the page has no line `Last drilled: ...` at its end")
    return f"{text[: found.start()]}Last drilled: {drilled}\n"


def _sections(lines: Sequence[str], name: str) -> Mapping[str, str]:
    found: dict[str, list[str]] = {}
    into: list[str] = []
    fenced = False
    for line in lines:
        fenced ^= _FENCE.match(line) is not None
        heading = None if fenced else _HEADING.fullmatch(line)
        if heading:
            into = found[heading[1]] = []
        else:
            into.append(line)
    sections = {title: "\n".join(text).strip() for title, text in found.items()}
    if tuple(sections) != SECTIONS:
        raise PageError(f"{name}.md: the sections must be {', '.join(SECTIONS)}, in this order")
    empty = [title for title, text in sections.items() if not text]
    if empty:
        raise PageError(f"{name}.md: nothing stands under {', '.join(empty)}")
    return sections


def _blocks(lines: Sequence[str], name: str) -> Iterator[Block]:
    section, step, place = "", 0, 0
    while place < len(lines):
        line = lines[place]
        fence = _FENCE.fullmatch(line)
        if fence:
            end = _end(lines, place, name)
            yield _block(lines, place, end, section, step, name)
            place = end
        elif heading := _HEADING.fullmatch(line):
            section, step = heading[1], 0
        elif numbered := _STEP.match(line):
            step = int(numbered[1])
        place += 1


def _end(lines: Sequence[str], begin: int, name: str) -> int:
    for place in range(begin + 1, len(lines)):
        if lines[place].strip() == "```":
            return place
    raise PageError(f"{name}.md:{begin + 1}: the block is never closed")


def _block(lines: Sequence[str], begin: int, end: int, section: str, step: int, name: str) -> Block:
    where = f"{name}.md:{begin + 1}"
    fence = _FENCE.fullmatch(lines[begin])
    opening = fence and _OPENING.fullmatch(fence[2].strip())
    if not fence or not opening:
        raise PageError(
            f"{where}: a block opens with its language (sh, sql, promql), its kind (verify, mutate, rollback) and, "
            'where no drill can run it, not-run="why"'
        )
    language, kind = Language(opening[1]), Kind(opening[2])
    if kind is not Kind.VERIFY and (section.startswith("Verify") or language is Language.PROMQL):
        raise PageError(f"{where}: under {section} a {language} block can only be of kind verify")
    body = "\n".join(line.removeprefix(fence[1]) for line in lines[begin + 1 : end])
    if not body.strip():
        raise PageError(f"{where}: the block is empty")
    return Block(section, language, kind, body, opening[3] or "", step, begin + 1, _expected(lines[end + 1 :]))


def _expected(after: Sequence[str]) -> str:
    paragraph = takewhile(str.strip, dropwhile(lambda line: not line.strip(), after))
    found = _EXPECTS.match(" ".join(line.strip() for line in paragraph))
    return found[1].strip() if found else ""


def _holds(word: str, output: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-]|\.\d)", output) is not None
