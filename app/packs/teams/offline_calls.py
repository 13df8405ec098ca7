"""What the offline members look up: the calls of each tool, from the question and from what is known by then."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from app.agent.model import ToolCall, ToolSpec
from app.packs.teams.client_tools import ACCOUNT_CONTEXT, CLIENT_HEALTH, CLIENT_LIST, CLIENT_SIGNALS, CODE_ACTIVITY
from app.packs.teams.evidence import rows

_MOST_CALLS: Final = 6
_MOST_CLIENTS: Final = 3
_LONGEST: Final = 500
_EMAIL: Final = re.compile(r"[^\s@<>]+@[^\s@<>]+\.\w+")
_RUN: Final = re.compile(r"\brun_[0-9a-z]{26}\b")
_CUSTOMER: Final = re.compile(r"\bcustomer\s+['\"]?([A-Za-z0-9][A-Za-z0-9._:-]*)", re.IGNORECASE)
_FREE_TEXT: Final = frozenset({"query", "q", "search", "text", "question"})

Args = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Look:
    """One look-up: its source and what it gave, or `problem`."""

    tool: str
    source: str
    result: Any
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A member's part. `named` are ids that members before it found; `turns` its own look-ups, round by round."""

    question: str
    part: str
    subject: str
    named: tuple[str, ...]
    turns: tuple[tuple[Look, ...], ...]

    @property
    def text(self) -> str:
        return f"{self.subject} {self.question} {self.part}"

    @property
    def clients(self) -> tuple[str, ...]:
        """Whom it is about: the subject, else those that somebody named, else the worst of the list of clients."""
        if self.subject:
            return (self.subject,)
        return self.named[:_MOST_CLIENTS] or self._worst()

    def _worst(self) -> tuple[str, ...]:
        looks = (look for turn in self.turns for look in turn if look.tool == CLIENT_LIST and not look.problem)
        return tuple(row["id"] for look in looks for row in worst(look.result["clients"]))


def worst(clients: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Those at risk, else those to watch; the lowest scores first."""
    for state in ("at_risk", "watch"):
        found = [row for row in clients if row["state"] == state]
        if found:
            return found[:_MOST_CLIENTS]
    return []


def calls_for(case: Case, tools: Sequence[ToolSpec]) -> tuple[ToolCall, ...]:
    """The look-ups of the next round: of each tool that was not used yet and whose arguments are known."""
    used = {look.tool for turn in case.turns for look in turn}
    wanted = [(tool.name, args) for tool in tools if tool.name not in used for args in _args(tool, case)]
    turn = len(case.turns)
    return tuple(
        ToolCall(f"offline-{turn}-{number}", name, orjson.dumps(args).decode())
        for number, (name, args) in enumerate(wanted[:_MOST_CALLS])
    )


def _args(tool: ToolSpec, case: Case) -> Iterable[Args]:
    own = _OWN.get(tool.name)
    return own(case) if own is not None else _guessed(tool, case)


def _client(case: Case) -> list[Args]:
    return [{"client": one} for one in case.clients]


def _list(case: Case) -> list[Args]:
    return [] if case.subject else [{"limit": 50}]


def _find_lead(case: Case) -> list[Args]:
    if case.subject.startswith("lead_"):
        return [{"lead_id": case.subject}]
    found = _EMAIL.search(case.text)
    return [{"email": found[0]}] if found else []


def _leads(case: Case) -> list[Args]:
    return [] if _find_lead(case) else [{"limit": 50}]


def _search(case: Case) -> list[Args]:
    return [{"query": case.part[:_LONGEST]}]


def _decision(case: Case) -> list[Args]:
    named = _CUSTOMER.search(case.text)
    customer = case.subject or (named[1] if named else "")
    return [{"customer": customer}] if customer and "@" not in customer else []


def _run(case: Case) -> list[Args]:
    found = _RUN.search(case.text)
    return [{"run_id": found[0]}] if found else []


_OWN: Final[Mapping[str, Callable[[Case], list[Args]]]] = {
    CLIENT_LIST: _list,
    CLIENT_HEALTH: _client,
    CLIENT_SIGNALS: _client,
    ACCOUNT_CONTEXT: _client,
    CODE_ACTIVITY: _client,
    "find_lead": _find_lead,
    "list_leads": _leads,
    "knowledge_search": _search,
    "treatment_decision": _decision,
    "treatment_run": _run,
}


def _guessed(tool: ToolSpec, case: Case) -> list[Args]:
    """A tool that came by configuration: called where it needs nothing, or no more than words to search for."""
    required = tool.schema.get("required", [])
    if not required:
        return [{}]
    if len(required) == 1 and required[0] in _FREE_TEXT:
        return [{required[0]: case.part[:_LONGEST]}]
    return []


def scalars(result: Any, most: int) -> list[str]:
    """The first rows of any result as `name value` pairs."""
    found = [
        ", ".join(f"{k} {v}" for k, v in row.items() if isinstance(v, str | int | float) and v != "")
        for row in rows(result)
    ]
    return [text for text in found if text][:most]
