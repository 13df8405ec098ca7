"""The bank's contacts as the files that the program's own commands take."""

import csv
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import InvalidInput
from app.packs.treatments.bank import BankCustomer, bank_catalogue, bank_customers, contacted_until
from app.packs.treatments.catalogue import CatalogueIn

FILE: Final = "bank_contacts.csv"
CATALOGUE, CUSTOMERS, OUTCOMES = "catalogue.json", "customers.jsonl", "outcomes.jsonl"
FULL: Final = 40_000
CALL_BACKS, LETTERS = 200, 1_000
"""Units a day for `FULL` customers."""
_PERSON: Final = ("age", "job", "marital", "education", "default", "balance", "housing", "loan")
_CONTACT: Final = ("contact", "day", "month", "campaign", "pdays", "previous", "poutcome", "deposit")
COLUMNS: Final = frozenset((*_PERSON, *_CONTACT))
WHERE_FROM: Final = (
    "it is the Bank Marketing data set of UCI (https://archive.ics.uci.edu/dataset/222/bank+marketing), separated by "
    "commas, oldest contact first, its column y named deposit"
)


@dataclass(frozen=True, slots=True)
class Scale:
    """How many customers, oldest contact first; the last `judged` of them are judged only."""

    customers: int
    judged: int


@dataclass(frozen=True, slots=True)
class Called:
    """What came of a judged customer's call. `value` in USD."""

    success: bool
    value: float


def bank_file(given: Path) -> Path:
    """The file, or the file in the folder. Raises InvalidInput that says where to get it."""
    path = given / FILE if given.is_dir() else given
    if not path.is_file():
        raise InvalidInput(
            f"There is no {path}: {WHERE_FROM}. Name it with --data, or its folder with TRELLIS_DATA; "
            "../shared/data is looked at by itself."
        )
    return path.absolute()


def check(path: Path, wanted: int) -> str:
    """The file's SHA-256. Raises InvalidInput where it is another file, or has fewer rows than wanted."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = sorted(COLUMNS - set(reader.fieldnames or ()))
            if missing:
                raise InvalidInput(f"{path} has no column {', '.join(missing)}: {WHERE_FROM}.")
            rows = sum(1 for _ in reader)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, UnicodeError, csv.Error) as error:
        raise InvalidInput(f"{path} cannot be read ({error}).") from None
    if rows < wanted:
        raise InvalidInput(f"{path} has {rows:,} customers: give --customers {rows} or fewer.")
    return digest


def write_files(path: Path, scale: Scale, folder: Path) -> None:
    """One row at a time. Raises InvalidInput for a row that is none of the bank's."""
    (folder / CATALOGUE).write_text(catalogue_of(scale).model_dump_json())
    with (folder / CUSTOMERS).open("wb") as customers, (folder / OUTCOMES).open("wb") as outcomes:
        for row in _rows(path, scale):
            customers.write(row.customer.model_dump_json().encode() + b"\n")
            if not row.judged:
                outcomes.write(row.outcome.model_dump_json().encode() + b"\n")


def catalogue_of(scale: Scale) -> CatalogueIn:
    """The bank's, its limits in proportion to the customers: a smaller run is as short of everything as a large one."""
    full = bank_catalogue()
    part = scale.customers / FULL
    call_backs, letters = (max(1, round(limit * part)) for limit in (CALL_BACKS, LETTERS))
    budget = (full.budget_usd_per_day or 0.0) * part
    return bank_catalogue(call_backs, letters).model_copy(update={"budget_usd_per_day": round(budget, 2)})


def judged_calls(path: Path, scale: Scale) -> Mapping[str, Called]:
    """By external id, in the order of the calls."""
    rows = (row for row in _rows(path, scale) if row.judged)
    return {row.customer.external_id: Called(row.outcome.success, row.outcome.value_usd) for row in rows}


def _rows(path: Path, scale: Scale) -> Iterator[BankCustomer]:
    try:
        at = contacted_until(path)
        yield from bank_customers(path, limit=scale.customers, judged=scale.judged, decided_at=at)
    except (KeyError, ValueError) as error:
        raise InvalidInput(f"{path} has a row that cannot be read ({error!s:.200}): {WHERE_FROM}.") from None
