"""The Cranfield collection: abstracts of aerodynamics, questions of engineers, and which abstract answers which."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import NotFound
from app.knowledge.page import Page

FILES = ("cranfield_documents.txt", "cranfield_queries.txt", "cranfield_qrels.txt")
MAX_TITLE = 200
# Grades 1 (a complete answer) to 4 (of minimum interest) are relevant; 5 and -1 are not.
NO_GAIN = 5
_RECORD = re.compile(r"^\.I +0*(\d+)\s*$", re.MULTILINE)
_FIELD = re.compile(r"^\.([A-Z])\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Judged:
    """A question, and by the slugs of the documents that bear on it what each is worth: 4 for grade 1, to 1 for 4."""

    number: int
    text: str
    gains: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Collection:
    pages: Sequence[Page]
    questions: Sequence[Judged]


def load(folder: Path) -> Collection:
    """Documents as they are, the title beside the text; those without text, which nobody could put in, are left out.

    Raises NotFound where a file is missing.
    """
    documents, queries, judgements = (_read(folder / name) for name in FILES)
    pages = [
        Page(f"cranfield-{number}", _title(fields["T"]), fields["W"], ())
        for number, fields in _records(documents)
        if fields.get("W")
    ]
    gains = _gains(judgements, frozenset(page.slug for page in pages))
    questions = [
        Judged(number, " ".join(fields["W"].split()), gains[number])
        for number, fields in _records(queries)
        if number in gains
    ]
    return Collection(pages, questions)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise NotFound(f"'{path}' is absent: name the folder of the data sets with --data.") from None


def _records(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Number and fields of each record; a field's lines as they are."""
    parts = _RECORD.split(text)[1:]
    for number, body in zip(parts[::2], parts[1::2], strict=True):
        fields = _FIELD.split(body)[1:]
        yield int(number), {name: value.strip() for name, value in zip(fields[::2], fields[1::2], strict=True)}


def _title(text: str) -> str:
    title = " ".join(text.split()).rstrip(" .")
    return title if len(title) <= MAX_TITLE else title[:MAX_TITLE].rsplit(" ", 1)[0]


def _gains(text: str, slugs: frozenset[str]) -> dict[int, dict[str, float]]:
    gains: dict[int, dict[str, float]] = {}
    for line in text.splitlines():
        question, _, document, grade = line.split()
        slug, gain = f"cranfield-{document}", NO_GAIN - int(grade)
        if 0 < gain < NO_GAIN and slug in slugs:
            gains.setdefault(int(question), {})[slug] = float(gain)
    return gains
