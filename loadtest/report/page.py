"""The report as one HTML page: verdict, thresholds, figures, charts, dashboards. It loads nothing from anywhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Final

from dashboards.render.gather import BoardData
from dashboards.render.page import body, document, table
from dashboards.render.picture import Picture
from dashboards.render.units import humane
from loadtest.report.words import counted, facts, judged, sentence, shown
from loadtest.results import Compared, EndpointResult, GateResult, Outcome, Quantiles, ScenarioResult

_STYLE: Final = """
.verdict { margin: 16px 0 4px; padding: 14px 16px; border-radius: 6px; font-size: 20px; color: #fff; }
.passed { background: #1b7f4d; } .failed { background: #b42318; } .open { background: #b45309; }
nav a { margin-right: 14px; }
.card { background: #fff; border: 1px solid #e4e7eb; border-radius: 6px; padding: 8px 14px; margin: 8px 0;
  overflow-x: auto; }
h3 { margin: 10px 0 4px; font-size: 15px; }
tr.failed td { color: #b42318; background: #fff; font-weight: bold; }
tr.open td { color: #b45309; background: #fff; }
"""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A board and its picture."""

    data: BoardData
    picture: Picture


def page(result: GateResult, drawn: Sequence[Drawn], trouble: str) -> str:
    """`drawn`: the charts first, then the dashboards. `trouble`: why there are no dashboards, else empty."""
    charts, *boards = drawn
    return document(f"Load gate: {result.phase}", _parts(result, charts, boards, trouble), _STYLE)


def _parts(result: GateResult, charts: Drawn, boards: Sequence[Drawn], trouble: str) -> Iterator[str]:
    yield f'<h1 class="verdict {_mood(result)}">{escape(sentence(result))}</h1>'
    yield _links(boards)
    yield f"<p>{escape(_when(result))}</p>"
    yield from _failures(result)
    yield '<h2 id="charts">Charts</h2>'
    yield from body(charts.data, charts.picture)
    yield '<h2 id="figures">Thresholds and figures</h2>'
    for scenario in result.scenarios:
        yield from _scenario(scenario)
    yield from _compared(result.compared)
    yield from _notes(result)
    if trouble:
        yield f'<p class="errors">{escape(trouble)}</p>'
    for each in boards:
        yield f'<h2 id="{escape(each.data.board.uid)}">{escape(each.data.board.title)}</h2>'
        yield from body(each.data, each.picture)


def _mood(result: GateResult) -> str:
    if not result.passed:
        return "failed"
    return "passed" if judged(result) else "open"


def _links(boards: Sequence[Drawn]) -> str:
    places = [("charts", "Charts"), ("figures", "Thresholds and figures")]
    places += [(each.data.board.uid, each.data.board.title) for each in boards]
    return "<nav>" + "".join(f'<a href="#{escape(name)}">{escape(text)}</a>' for name, text in places) + "</nav>"


def _when(result: GateResult) -> str:
    began, ended = (datetime.fromtimestamp(time, UTC) for time in (result.began, result.ended))
    return f"{began:%-d %b %Y, %H:%M:%S} to {ended:%H:%M:%S} UTC"


def _failures(result: GateResult) -> Iterator[str]:
    if result.failures:
        yield '<div class="card errors"><ul>' + "".join(f"<li>{escape(each)}</li>" for each in result.failures)
        yield "</ul></div>"


def _scenario(scenario: ScenarioResult) -> Iterator[str]:
    took = humane(scenario.ended - scenario.began, "s")
    yield f'<div class="card"><h3>{escape(scenario.name)}: {scenario.factor:g} times the share, {took}</h3>'
    if scenario.aborted:
        yield f'<p class="errors">Ended early: {escape(scenario.aborted)}</p>'
    yield from _checks(scenario)
    yield "<h3>Endpoints</h3>"
    names = ("kind", "asked", "failed", "good", *_TIMES, "first piece p50", "p95")
    rows = [*scenario.endpoints, *([scenario.questions] if scenario.questions else [])]
    yield table(names, [_endpoint(each) for each in rows], (False, *[True] * (len(names) - 1)))
    yield from _inside(scenario)
    yield "</div>"


def _checks(scenario: ScenarioResult) -> Iterator[str]:
    """The missed first; a row's colour says its outcome, and its last words why."""
    moods = {Outcome.FAILED: "failed", Outcome.NOT_JUDGED: "open", Outcome.PASSED: ""}
    order = list(moods)
    yield "<table><thead><tr><th>threshold</th><th>seen</th><th>limit</th><th>outcome</th><th></th></tr></thead><tbody>"
    for check in sorted(scenario.checks, key=lambda check: order.index(check.outcome)):
        cells = (check.name, shown(check.seen, check.unit), shown(check.limit, check.unit), check.outcome, check.why)
        yield f'<tr class="{moods[check.outcome]}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
    yield "</tbody></table>"


_TIMES: Final = ("mean", "p50", "p95", "p99", "slowest")


def _endpoint(each: EndpointResult) -> Sequence[str]:
    first = _times(each.first_token)
    counts = (
        f"{each.asked:,}",
        f"{each.failed:,}",
        humane(each.good / each.asked, "percentunit") if each.asked else "",
    )
    return each.kind, *counts, *_times(each.answer), first[1], first[2]


def _times(found: Quantiles | None) -> Sequence[str]:
    if found is None:
        return ("",) * len(_TIMES)
    values = (found.mean_s, found.p50_s, found.p95_s, found.p99_s, found.worst_s)
    return ["too few" if value is None else humane(value, "s") for value in values]


def _inside(scenario: ScenarioResult) -> Iterator[str]:
    """Own share, parts, errors."""
    if scenario.own_share is not None:
        words = ", ".join(f"{n} {v}" for n, v in zip(_TIMES, _times(scenario.own_share), strict=True))
        yield f"<p>Our own share of {counted(scenario.own_share.count, 'request')}: {words}.</p>"
    yield f"<p>{counted(scenario.model_calls, 'model call')}, {counted(scenario.dropped, 'dropped iteration')}.</p>"
    rows = [
        (p.part, humane(p.cpu_s, "s"), humane(p.machine_share, "percentunit"), humane(p.memory_mib * 2**20, "bytes"))
        for p in scenario.parts
    ]
    yield "<h3>Parts</h3>"
    yield table(("part", "processor", "of the machine", "memory"), rows, (False, True, True, True))
    if scenario.errors:
        yield "<h3>Errors</h3>"
        yield table(("what", "times"), [(what, f"{n:,}") for what, n in scenario.errors.items()], (False, True))


def _compared(compared: Sequence[Compared]) -> Iterator[str]:
    if not compared:
        return
    rows = [
        (
            each.figure,
            shown(each.baseline, each.unit),
            shown(each.now, each.unit),
            f"{each.ratio:.2f}",
            f"{1 + each.tolerance:.2f}",
            "worse" if each.worse else "within",
        )
        for each in compared
    ]
    yield '<div class="card"><h3>Beside the baseline</h3>'
    names = ("figure", "baseline", "now", "times", "allowed", "verdict")
    yield table(names, rows, (False, True, True, True, True, False))
    yield "</div>"


def _notes(result: GateResult) -> Iterator[str]:
    yield '<div class="card"><h3>Where and how</h3>'
    yield table(("what", "value"), facts(result), (False, False))
    yield from (f"<p>{escape(note)}</p>" for note in result.notes)
    yield "</div>"
