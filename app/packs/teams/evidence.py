"""What a member's tools gave back, and what of it an answer may rest on: nothing else is evidence."""

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from app.agent.tools import OutcomeState, ToolOutcome
from app.governance.links import has_links, links, without_links
from app.packs.teams.schemas import MAX_NAMED, Evidence

_IDS: Final = frozenset({"id", "key", "number", "ref", "slug", "sha", "name"})
_PERSONS: Final = frozenset({"email", "customer", "client", "user"})
_MOST_SEEN: Final = 1_000
_TITLES: Final = ("title", "name", "subject", "client", "label")
_TEXTS: Final = ("text", "summary", "sentence", "reason", "body", "answer", "message")
_LONGEST: Final = 400


@dataclass(slots=True)
class EvidenceBook:
    """The results that one member was told of. Each call's has a source, `<tool>-<number>`, which the member cites; so
    may it the id of a row inside (a value of `id`, `key`, `number`, `ref`, `slug`, `sha`, `name` or `..._id`)."""

    _results: dict[str, ToolOutcome] = field(default_factory=dict)

    def tell(self, outcome: ToolOutcome) -> dict[str, Any]:
        """What the model is told of a call that is done; the call counts as evidence from then on."""
        source = f"{outcome.tool}-{1 + sum(known.tool == outcome.tool for known in self._results.values())}"
        self._results[source] = outcome
        return {"source": source, "result": outcome.result}

    def checked(self, ids: Iterable[str], task: int, member: str) -> tuple[list[Evidence], list[str]]:
        """What the ids stand for, each once, and those that stand for nothing that this member was told."""
        found, unknown = [], []
        for wanted in list(dict.fromkeys(ids))[:MAX_NAMED]:
            row = self._find(wanted)
            if row is None:
                unknown.append(wanted)
            else:
                tool, value = row
                evidence_id = f"{task}:{wanted}"
                found.append(
                    Evidence(
                        id=evidence_id, task=task, member=member, tool=tool, title=_title(value), quote=_quote(value)
                    )
                )
        return found, unknown

    def _find(self, wanted: str) -> tuple[str, Any] | None:
        known = self._results.get(wanted)
        if known is not None:
            return known.tool, known.result
        for outcome in self._results.values():
            for row in rows(outcome.result):
                if wanted in _ids(row):
                    return outcome.tool, row
        return None


def rows(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every JSON object in the value, outer ones first."""
    waiting = [value]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, Mapping):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def seen(result: Any) -> list[str]:
    """Ids and addresses in a result, sorted; of a very long one the first."""
    found = {name for row in rows(result) for name in _ids(row, _IDS | _PERSONS)}
    return sorted(found)[:_MOST_SEEN]


def _ids(row: Mapping[str, Any], keys: Set[str] = _IDS) -> set[str]:
    return {
        str(value)
        for key, value in row.items()
        if (key in keys or key.endswith("_id")) and isinstance(value, str | int) and str(value)
    }


def _title(value: Any) -> str:
    if not isinstance(value, Mapping):
        return ""
    named = (value[key] for key in _TITLES if isinstance(value.get(key), str))
    return next(named, "")[:_LONGEST]


def _quote(value: Any) -> str:
    if isinstance(value, Mapping):
        said = next((value[key] for key in _TEXTS if isinstance(value.get(key), str) and value[key]), None)
        if said is not None:
            return str(said)[:_LONGEST]
    return orjson.dumps(value).decode()[:_LONGEST]


def failures(outcomes: Iterable[ToolOutcome]) -> list[ToolOutcome]:
    """The calls that gave nothing."""
    return [outcome for outcome in outcomes if outcome.state is not OutcomeState.DONE]


def unlinked(texts: Iterable[str], sources: Iterable[str]) -> list[str]:
    """The texts without links that no source has: the way out for what a tool's result talked an agent into."""
    written = list(texts)
    if not any(map(has_links, written)):
        return written
    known = links(sources)
    return [without_links(text, known) for text in written]


def told(outcomes: Iterable[ToolOutcome]) -> list[str]:
    """The results as texts."""
    return [orjson.dumps(outcome.result).decode() for outcome in outcomes if outcome.state is OutcomeState.DONE]
