"""Labelled leads: the shipped sample with its labels, and the held-out ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from app.packs.leads.models import Action
from app.packs.leads.sample_data import SAMPLE
from app.packs.leads.schemas import LeadIn

HERE = Path(__file__).parent
LABELS = ("expected_action", "acceptable", "escalation_necessary", "evidence", "why")


@dataclass(frozen=True, slots=True)
class Case:
    """One lead and what would be right. `evidence` holds slugs of pages; `acceptable` actions besides `expected`."""

    lead: LeadIn
    expected: Action
    acceptable: frozenset[Action]
    escalation_necessary: bool
    evidence: frozenset[str]

    @property
    def name(self) -> str:
        return self.lead.external_id or self.lead.email

    @property
    def language(self) -> str:
        return (self.lead.language or "und").partition("-")[0]

    def accepts(self, action: Action) -> bool:
        return action is self.expected or action in self.acceptable


def sample_cases() -> list[Case]:
    """The leads that ship, by which the rules were written."""
    labels = {row["external_id"]: row for row in _rows(HERE / "labels.jsonl")}
    return [_case(lead, labels[lead["external_id"]]) for lead in _rows(SAMPLE / "leads.jsonl")]


def holdout_cases() -> list[Case]:
    """Leads with labels that were written before the rules and not looked at while these were tuned.

    Rules and leads are by the same hand: what this measures is the step from one wording to another, not from one
    company's mail to another's.
    """
    rows = _rows(HERE / "holdout.jsonl")
    return [_case({name: value for name, value in row.items() if name not in LABELS}, row) for row in rows]


def _rows(path: Path) -> Sequence[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]


def _case(lead: Mapping[str, Any], label: Mapping[str, Any]) -> Case:
    return Case(
        lead=LeadIn.model_validate(lead),
        expected=Action(label["expected_action"]),
        acceptable=frozenset(map(Action, label["acceptable"])),
        escalation_necessary=label["escalation_necessary"],
        evidence=frozenset(label["evidence"]),
    )
