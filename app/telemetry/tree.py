"""A kept trace as lines of a tree: what began when, how long it took, where it failed."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from app.telemetry import names
from app.telemetry.kept import KeptSpan

BAR: Final = 24
_TABLE: Final = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+([\w.\"]+)", re.IGNORECASE)
_TOLD: Final = (
    (names.ERROR_TYPE, ""),
    (names.HTTP_STATUS, "status "),
    (names.TOOL_STATE, ""),
    (names.INPUT_TOKENS, "tokens in "),
    (names.OUTPUT_TOKENS, "tokens out "),
    (names.COST_USD, "USD "),
    (names.PASSAGES, "passages "),
    (names.STEPS, "steps "),
    (names.TASK_STATE, ""),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One span in its place. Times in seconds, `begins` from the trace's begin on.

    `bar`: `BAR` characters, the trace's whole time from left to right. `orphan`: its parent is not kept here; it ran
    in another process that did not keep it, or it has not ended.
    """

    depth: int
    name: str
    service: str
    begins: float
    lasts: float
    bar: str
    failed: bool
    orphan: bool
    notes: tuple[str, ...]


def lines(spans: Sequence[KeptSpan]) -> list[Line]:
    """The tree from top to bottom; what has the same parent in the order in which it began."""
    if not spans:
        return []
    start, end = min(span.start for span in spans), max(span.end for span in spans)
    known = {span.span for span in spans}
    below: dict[str | None, list[KeptSpan]] = {}
    for span in sorted(spans, key=lambda one: (one.start, one.span)):
        below.setdefault(span.parent if span.parent in known else None, []).append(span)
    return [_line(span, depth, start, max(1, end - start)) for span, depth in _walk(below)]


def _walk(below: dict[str | None, list[KeptSpan]]) -> Iterator[tuple[KeptSpan, int]]:
    """Depth first; without recursion, for a trace may be as deep as a stranger's spans make it."""
    waiting = [(span, 0) for span in reversed(below.get(None, []))]
    while waiting:
        span, depth = waiting.pop()
        yield span, depth
        waiting += [(child, depth + 1) for child in reversed(below.pop(span.span, []))]


def _line(span: KeptSpan, depth: int, start: int, whole: int) -> Line:
    return Line(
        depth=depth,
        name=_name(span),
        service=span.service,
        begins=(span.start - start) / 1e9,
        lasts=(span.end - span.start) / 1e9,
        bar=_bar(span.start - start, span.end - start, whole),
        failed=span.failed,
        orphan=depth == 0 and span.parent is not None,
        notes=tuple(f"{word}{_told(span.attributes[name])}" for name, word in _TOLD if name in span.attributes),
    )


def _name(span: KeptSpan) -> str:
    """A statement with its table; everything else as it is called."""
    found = _TABLE.search(str(span.attributes.get(names.DB_QUERY, "")))
    table = found[1].replace('"', "") if found else ""
    return f"{span.name} {table}" if table else span.name


def _bar(begins: int, ends: int, whole: int) -> str:
    left = min(BAR - 1, begins * BAR // whole)
    right = max(left + 1, min(BAR, -(-ends * BAR // whole)))
    return " " * left + "█" * (right - left) + " " * (BAR - right)


def _told(value: object) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
