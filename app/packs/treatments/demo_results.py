"""The file of a run's results, read back."""

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from app.packs.treatments.bank import TREATMENT
from app.packs.treatments.models import ResultState

OPEN = frozenset((ResultState.ALLOCATED, ResultState.QUEUED))
Place = tuple[str, str]


@dataclass(slots=True)
class Told:
    """`called` are the external ids of customers with a call. `could` and `got` count by group and treatment ("" for
    any): who might have had it when it was allocated, and who has it."""

    lines: int = 0
    customers: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    could: Counter[Place] = field(default_factory=Counter)
    got: Counter[Place] = field(default_factory=Counter)

    def add(self, row: dict[str, str]) -> None:
        self.lines += 1
        self.customers.add(row["external_id"])
        if row["state"] not in OPEN:
            return
        options = {option["treatment"] for option in orjson.loads(row["options"])}
        for treatment in (*options, *([""] if options else [])):
            self.could[row["fair_group"], treatment] += 1
        if row["state"] == ResultState.ALLOCATED:
            for treatment in (row["treatment"], ""):
                self.got[row["fair_group"], treatment] += 1
            if row["treatment"] == TREATMENT:
                self.called.add(row["external_id"])


def read_results(file: Path) -> Told:
    told = Told()
    with file.open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            told.add(row)
    return told
