"""What the clients saw and what the parts took, as one board: drawn as the dashboards are."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from dashboards.render.gather import BoardData, PanelData, Series, Span
from dashboards.render.grafana import COLUMNS, Board, Mapped, Panel, Place, Section, Style
from dashboards.render.prometheus import Window
from infra.phases import PHASES, PhaseName
from loadtest.plan import WARM_UP_S, Figure
from loadtest.report.sketch import Sketch
from loadtest.report.timeline import STREAMED, Slot, Timeline
from loadtest.report.words import judged, sentence
from loadtest.results import GateResult, Kind, PartUse

QUESTIONS: Final = (Kind.CHAT, Kind.STREAM, Kind.KNOWN, Kind.KNOWN_STREAM)
LEAST_SAMPLES: Final = 20
"""Of a stretch, for its 95th percentile."""
LOAD_GENERATOR: Final = "k6"
WARM_UP: Final = "warm-up"
"""The kind of what is asked before a scenario is measured: in the rates, and in no time."""
_HALF: Final = COLUMNS // 2
_HIGH: Final = 8
_VERDICTS: Final = (
    Mapped(0, 0, "FAILED", "red"),
    Mapped(1, 1, "PASSED", "green"),
    Mapped(2, 2, "NOT JUDGED", "orange"),
)
_PLAIN: Final = Style()
_QUANTILES: Final[Mapping[str, Callable[[Sketch], float]]] = {
    "p50": lambda sketch: sketch.quantile(0.5),
    "p95": lambda sketch: sketch.quantile(0.95) if sketch.count >= LEAST_SAMPLES else math.nan,
    "slowest": lambda sketch: sketch.highest if sketch.count else math.nan,
}


def scenario_spans(result: GateResult) -> list[Span]:
    """When each scenario ran, to be marked on every panel."""
    return [Span(each.name, "scenario", each.began, each.ended) for each in result.scenarios]


def period(result: GateResult) -> tuple[float, float]:
    """From when to when the scenarios ran, the warm-up of the first among it. What was compared before is not."""
    began = min((each.began for each in result.scenarios), default=result.began)
    ended = max((each.ended for each in result.scenarios), default=result.ended)
    return max(began - WARM_UP_S, result.began), max(ended, began + 1)


def charts(result: GateResult, timeline: Timeline, used: Sequence[Series]) -> BoardData:
    """The board. `used`: processor of parts over time, from the run's Prometheus; empty where there was none."""
    window = Window(*period(result), timeline.width_s)
    sections = {
        "": [*_tiles(result), *_words(result)],
        "What clients saw": _seen(result, timeline),
        "What it took": [*_used(used, timeline.width_s), *_parts(result)],
    }
    placed = {title: _placed(panels) for title, panels in sections.items() if panels}
    board = Board(
        f"gate-{result.phase}",
        f"Load gate: {result.phase}",
        f"Revision {result.revision} on {result.machine}",
        [Section(title, [data.panel for data in panels]) for title, panels in placed.items()],
    )
    flat = [data for panels in placed.values() for data in panels]
    return BoardData(board, window, flat, scenario_spans(result), False, (), {})


def _tiles(result: GateResult) -> Iterator[PanelData]:
    """The figures that are looked for first, each the worst of all scenarios."""
    verdict = 0.0 if not result.passed else 1.0 if judged(result) else 2.0
    yield _tile("Verdict", verdict, Style("none", mapped=_VERDICTS), 8)
    asked = sum(endpoint.asked for each in result.scenarios for endpoint in each.endpoints)
    failed = sum(endpoint.failed for each in result.scenarios for endpoint in each.endpoints)
    yield _tile("Requests", float(asked), Style("short"), 4)
    yield _tile("Failed", failed / asked if asked else math.nan, Style("percentunit"), 4)
    own = [
        check.seen
        for each in result.scenarios
        for check in each.checks
        if check.name.endswith(Figure.OWN_P99) and check.seen is not None
    ]
    yield _tile("Own share p99, worst", max(own, default=math.nan), Style("s"), 4)
    generators = [part.machine_share for each in result.scenarios for part in each.parts if part.part == LOAD_GENERATOR]
    yield _tile("k6 of the machine", max(generators, default=math.nan), Style("percentunit"), 4)


def _tile(title: str, value: float, style: Style, wide: int) -> PanelData:
    panel = _panel("stat", title, wide, 3, style)
    return PanelData(panel, [Series(title, {}, [(0.0, value)], style, "A")], (), (), (), 1.0)


def _words(result: GateResult) -> Iterator[PanelData]:
    """The verdict, and the failures that are not in it yet."""
    lines = [sentence(result), *(f"- {failure}" for failure in result.failures[1:4])]
    if len(result.failures) > 4:
        lines.append(f"- and {len(result.failures) - 4} more")
    content = {"content": "\n".join(lines)}
    panel = replace(_panel("text", "", COLUMNS, 2 + len(lines) // 2 + len(lines[0]) // 150), options=content)
    yield PanelData(panel, (), (), (), (), 1.0)


def _seen(result: GateResult, timeline: Timeline) -> list[PanelData]:
    kinds = [kind for kind in timeline.kinds if kind != WARM_UP]
    questions = [kind for kind in kinds if kind in QUESTIONS]
    streamed = [kind for kind in questions if kind in STREAMED]
    shown = [
        _lines("Questions: time to answer", "s", _quantiles(timeline, questions, _answer), _targets(result, timeline)),
        _lines("Time to answer by kind (p50)", "s", _medians(timeline, kinds, _answer)),
        _lines("Time to the first piece of a stream", "s", _quantiles(timeline, streamed, _first)),
        _lines("Rate asked and got", "reqps", _rates(timeline)),
        _lines("Failed requests by kind", "reqps", _each(timeline, kinds, lambda slot: slot.failed)),
        _lines("Dropped: k6 could not begin them", "reqps", _each(timeline, kinds, lambda slot: slot.dropped)),
    ]
    return [replace(data, step=timeline.width_s) for data in shown]


def _answer(slot: Slot) -> Sketch:
    return slot.answer


def _first(slot: Slot) -> Sketch:
    return slot.first


def _lines(title: str, unit: str, found: Iterable[Series], targets: Sequence[Series] = ()) -> PanelData:
    style = Style(unit, least=0.0)
    series = [*(replace(each, style=style) for each in found), *targets]
    return PanelData(_panel("timeseries", title, _HALF, _HIGH, style), series, (), (), (), 1.0)


def _quantiles(timeline: Timeline, kinds: Sequence[str], of: Callable[[Slot], Sketch]) -> Iterator[Series]:
    """Of all these kinds together. A stretch with few samples has no 95th percentile."""
    sketches = [(time, Sketch.merged(of(slot) for slot in timeline.at(time, *kinds))) for time in timeline.times]
    for name, value in _QUANTILES.items() if kinds else ():
        points = [(time, value(sketch)) for time, sketch in sketches]
        known = [(time, found) for time, found in points if not math.isnan(found)]
        if known:
            yield _series(name, known)


def _medians(timeline: Timeline, kinds: Sequence[str], of: Callable[[Slot], Sketch]) -> Iterator[Series]:
    for kind in kinds:
        sketches = [(time, Sketch.merged(of(slot) for slot in timeline.at(time, kind))) for time in timeline.times]
        yield _series(kind, [(time, sketch.quantile(0.5)) for time, sketch in sketches if sketch.count])


def _rates(timeline: Timeline) -> Iterator[Series]:
    """A second: what was to begin then, and what was answered then."""
    for name, count in (("asked", lambda s: s.asked), ("answered", lambda s: s.answered)):
        yield _series(name, [(t, sum(map(count, timeline.at(t))) / timeline.width_s) for t in timeline.times])


def _each(timeline: Timeline, kinds: Sequence[str], count: Callable[[Slot], int]) -> Iterator[Series]:
    """A second, of each kind that has any; one line of nothing where none has."""
    found = {kind: [(t, sum(map(count, timeline.at(t, kind)))) for t in timeline.times] for kind in kinds}
    some = {kind: points for kind, points in found.items() if any(value for _time, value in points)}
    if not some:
        yield _series("none", [(time, 0.0) for time in timeline.times])
    for kind, points in some.items():
        yield _series(kind, [(time, value / timeline.width_s) for time, value in points])


def _targets(result: GateResult, timeline: Timeline) -> list[Series]:
    """What the phase promises."""
    promised = PHASES[PhaseName(result.phase)].targets
    limits = {"promised p50": promised.answer_p50_s, "promised p99": promised.answer_p99_s}
    style = Style("s", dashed=True)
    return [
        Series(name, {}, [(time, limit) for time in timeline.times], style, "T")
        for name, limit in limits.items()
        if limit is not None
    ]


def _used(used: Sequence[Series], step: float) -> Iterator[PanelData]:
    if used:
        panel = _panel("timeseries", "Processor of our processes (cores)", COLUMNS, _HIGH, Style("short", least=0.0))
        # Scrapes may lie further apart than the stretches that requests are counted in, and are no gaps then.
        apart = min((then - now for each in used for (now, _), (then, _) in pairwise(each.points)), default=step)
        yield PanelData(panel, used, (), (), (), max(step, apart))


def _parts(result: GateResult) -> Iterator[PanelData]:
    """Bars over all scenarios: processor as a share of the machine while they ran, and the memory's peak."""
    wall = sum(each.ended - each.began for each in result.scenarios)
    parts: dict[str, list[tuple[float, PartUse]]] = {}
    for each in result.scenarios:
        for part in each.parts:
            parts.setdefault(part.part, []).append((each.ended - each.began, part))
    if not parts or wall <= 0:
        return
    shares = {name: sum(part.machine_share * took for took, part in held) / wall for name, held in parts.items()}
    peaks = {name: max(part.memory_mib for _took, part in held) * 2**20 for name, held in parts.items()}
    yield _bars("Share of the machine by part", "percentunit", shares)
    yield _bars("Memory by part, at its peak", "bytes", peaks)


def _bars(title: str, unit: str, values: Mapping[str, float]) -> PanelData:
    style = Style(unit)
    high = max(5, round(len(values) * 0.75) + 2)
    series = [Series(name, {}, [(0.0, value)], style, "A") for name, value in values.items() if value > 0]
    return PanelData(_panel("bargauge", title, _HALF, high, style), series, (), (), (), 1.0)


def _series(name: str, points: Sequence[tuple[float, float]]) -> Series:
    return Series(name, {}, points, _PLAIN, "A")


def _panel(kind: str, title: str, wide: int, high: int, style: Style = _PLAIN) -> Panel:
    return Panel(0, kind, title, "", Place(0, 0, wide, high), style=style)


def _placed(panels: Iterable[PanelData]) -> list[PanelData]:
    """From left to right; a line ends where the next has no room."""
    placed, x, y, high = list[PanelData](), 0, 0, 0
    for data in panels:
        place = data.panel.place
        if x + place.w > COLUMNS:
            x, y, high = 0, y + high, 0
        placed.append(replace(data, panel=replace(data.panel, place=replace(place, x=x, y=y))))
        x, high = x + place.w, max(high, place.h)
    return placed
