"""banking77: customers' questions to a bank, each with one of 77 intents.

Casanueva et al., "Efficient Intent Detection with Dual Sentence Encoders" (NLP4ConvAI 2020). Two questions of one
intent are taken to have one answer. Some intents are so near to each other that their questions cannot be told apart.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import InvalidInput, NotFound

FILES = ("banking77_train.csv", "banking77_test.csv")
_COLUMNS = ("text", "category")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of the file, and its intent. `row` counts the file's records from 0."""

    row: int
    text: str
    intent: str


def load(path: Path) -> Sequence[Asked]:
    """Raises NotFound where the file is missing, InvalidInput where it is another."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != _COLUMNS:
                raise InvalidInput(f"'{path}' is not banking77: its columns must be {', '.join(_COLUMNS)}.")
            return [Asked(row, line["text"], line["category"]) for row, line in enumerate(reader)]
    except FileNotFoundError:
        raise NotFound(f"'{path}' is absent: name the folder of the data sets with --data.") from None
