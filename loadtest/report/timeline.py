"""What k6 wrote line by line (`--out json=`), gathered over stretches of time.

A line of it is `{"metric": "http_req_duration", "type": "Point", "data": {"time": ..., "value": ms, "tags": {...}}}`;
https://grafana.com/docs/k6/latest/results-output/real-time/json/
"""

import gzip
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from loadtest.report.sketch import Sketch
from loadtest.results import Kind

POINTS: Final = 90
"""Stretches that a whole run is cut into, at most."""
STREAMED: Final = frozenset({Kind.STREAM, Kind.KNOWN_STREAM})
_DROPPED: Final = "dropped_iterations"
_ANSWERED: Final = "http_req_duration"
_FIRST: Final = "http_req_waiting"
_FAILED: Final = "requests_failed"
"""The gate's own counter: a stream that ends with an error has status 200."""
_NEEDLES: Final = tuple(f'"{name}"'.encode() for name in (_DROPPED, _ANSWERED, _FIRST, _FAILED))
_LONGEST_HEAD: Final = 60
"""The name of the metric stands so near to a line's beginning, whichever order its fields have."""


@dataclass(slots=True)
class Slot:
    """What was asked and answered in one stretch of time, of one kind. Times in seconds.

    `asked` counts by when a request began, all else by when it ended. `first`: until the first byte of a streamed
    answer. `dropped`: what k6 could not begin in time.
    """

    asked: int = 0
    answered: int = 0
    failed: int = 0
    dropped: int = 0
    answer: Sketch = field(default_factory=Sketch)
    first: Sketch = field(default_factory=Sketch)


@dataclass(frozen=True, slots=True)
class Timeline:
    """`slots`: by the beginning of the stretch (seconds since 1970), then by kind. `width_s`: of each stretch."""

    width_s: float
    slots: Mapping[float, Mapping[str, Slot]]

    @property
    def times(self) -> list[float]:
        return sorted(self.slots)

    @property
    def kinds(self) -> list[str]:
        """In the order of `Kind`; unknown ones behind."""
        order = {kind.value: number for number, kind in enumerate(Kind)}
        found = {kind for by_kind in self.slots.values() for kind in by_kind}
        return sorted(found, key=lambda kind: (order.get(kind, len(order)), kind))

    def at(self, time: float, *kinds: str) -> list[Slot]:
        """The slots of a stretch; of all kinds where none is given."""
        return [slot for kind, slot in self.slots.get(time, {}).items() if not kinds or kind in kinds]


Slots = dict[float, dict[str, Slot]]


def width(length_s: float) -> float:
    """Whole seconds of a stretch, so that there are at most `POINTS` of them."""
    return float(max(1, math.ceil(length_s / POINTS)))


def read_timeline(place: Path, length_s: float) -> Timeline:
    """Of one file (`.gz`: packed), or of all packed files below a folder. Read line by line: a soak's are gigabytes.

    A line that is cut off (k6 was killed) ends its file. Raises ValueError where a whole line is none of k6's.
    """
    wide = width(length_s)
    slots: Slots = {}
    for path in files(place):
        for metric, point in _points(path):
            _count(slots, wide, metric, point)
    return Timeline(wide, slots)


def files(place: Path) -> list[Path]:
    """The file, or all packed ones below the folder."""
    return sorted(place.rglob("*.json.gz")) if place.is_dir() else [place]


def _points(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The metric and the data of each point that is drawn."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(_whole(lines), 1):
            if not any(needle in line[:_LONGEST_HEAD] for needle in _NEEDLES):
                continue
            try:
                found = orjson.loads(line)
                if found["type"] == "Point":
                    yield found["metric"], found["data"]
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}, is no output of k6: {error}") from error


def _whole(lines: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield from (line for line in lines if line.endswith(b"\n"))
    except EOFError:
        return  # A packed file that was cut off.


def _count(slots: Slots, wide: float, metric: str, point: Mapping[str, Any]) -> None:
    tags, value = point["tags"] or {}, float(point["value"])
    # k6 gives what it dropped no tag but its scenario's name, which is the kind's in the gate's script.
    ended, kind = datetime.fromisoformat(point["time"]).timestamp(), tags.get("kind") or tags.get("scenario", "other")
    slot = _slot(slots, wide, ended, kind)
    if metric == _DROPPED:
        slot.dropped += round(value)
        slot.asked += round(value)
    elif metric == _FAILED:
        slot.failed += round(value)
    elif metric == _FIRST:
        if kind in STREAMED:
            slot.first.add(value / 1000)
    else:
        slot.answered += 1
        slot.answer.add(value / 1000)
        _slot(slots, wide, ended - value / 1000, kind).asked += 1


def _slot(slots: Slots, wide: float, time: float, kind: str) -> Slot:
    by_kind = slots.setdefault(math.floor(time / wide) * wide, {})
    if kind not in by_kind:
        by_kind[kind] = Slot()
    return by_kind[kind]
