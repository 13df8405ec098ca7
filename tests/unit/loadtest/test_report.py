import gzip
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.render.__main__ import BOARDS
from dashboards.render.gather import BoardData, Series
from dashboards.render.grafana import Style, read_board
from dashboards.render.prometheus import Found, Window
from loadtest.report import boards, report, sentence
from loadtest.report.charts import charts
from loadtest.report.junit import junit
from loadtest.report.sketch import ACCURACY, Sketch
from loadtest.report.timeline import POINTS, Slot, Timeline, read_timeline, width
from loadtest.results import Compared, GateResult, Kind, read
from tests.support.answering import answering
from tests.support.boards import FakePrometheus
from tests.support.examples import examples
from tests.support.gate_results import BEGAN, check, result, scenario

WORSE = Compared("chat answer p50", 0.4, 0.6, 1.5, 0.1, "s", True)
SCRIPT = """
import http from 'k6/http';
import {{ sleep }} from 'k6';
import {{ Counter }} from 'k6/metrics';
const of = (exec, rate, maxVUs, kind) => ({{
  executor: 'constant-arrival-rate', exec, rate, timeUnit: '1s', duration: '2s',
  preAllocatedVUs: 1, maxVUs, tags: {{ kind }},
}});
export const options = {{ scenarios: {{
  lead: of('lead', 20, 4, 'lead'), stream: of('stream', 20, 4, 'stream'), document: of('slow', 10, 1, 'document'),
}} }};
const failed = new Counter('requests_failed');
export function lead() {{ if (http.post('{url}/sick', 'x').status !== 200) failed.add(1, {{ kind: 'lead' }}); }}
export function stream() {{ http.post('{url}/well', 'x'); }}
export function slow() {{ sleep(0.5); http.post('{url}/well', 'x'); }}
"""
"""Two kinds that keep their rate, one of which fails at times, and one that cannot."""


def line(metric: str, at: float, value: float, kind: str) -> bytes:
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{round(at % 1 * 1e6):06}Z"
    data = {"time": when, "value": value, "tags": {"kind": kind}}
    return json.dumps({"metric": metric, "type": "Point", "data": data}).encode() + b"\n"


def written(folder: Path, *lines: bytes) -> Path:
    path = folder / "k6.json"
    path.write_bytes(b"".join(lines))
    return path


def whole(timeline: Timeline, kind: str) -> Slot:
    """All stretches of a kind as one."""
    slots = [slot for time in timeline.times for slot in timeline.at(time, kind)]
    return Slot(
        *(sum(getattr(slot, name) for slot in slots) for name in ("asked", "answered", "failed", "dropped")),
        answer=Sketch.merged(slot.answer for slot in slots),
        first=Sketch.merged(slot.first for slot in slots),
    )


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.floats(1e-4, 1e3), min_size=1, max_size=60), st.floats(0, 1), st.integers(0, 59))
def test_a_quantile_is_near_the_value_at_its_rank_however_the_stream_was_cut(
    values: list[float], part: float, cut: int
) -> None:
    pieces = [Sketch(), Sketch()]
    for number, value in enumerate(values):
        pieces[number >= cut].add(value)
    found = Sketch.merged(pieces)
    exact = sorted(values)[int(part * (len(values) - 1))]
    assert found.quantile(part) == pytest.approx(exact, rel=ACCURACY * 1.01)
    assert (found.count, found.highest) == (len(values), max(values))


def test_what_k6_really_writes_is_counted(tmp_path: Path) -> None:
    program = shutil.which("k6") or shutil.which("k6", path=str(Path(sys.executable).parent))
    assert program, "k6 comes with the development dependencies"
    with answering() as url:
        (tmp_path / "script.js").write_text(SCRIPT.format(url=url))
        out = tmp_path / "series" / "average.json.gz"
        out.parent.mkdir()
        command = (program, "run", "--quiet", "--address", "", "--out", f"json={out}", str(tmp_path / "script.js"))
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    found = read_timeline(out.parent, 2.0)
    lead, stream, slow = (whole(found, kind) for kind in ("lead", "stream", "document"))
    assert found.kinds == ["lead", "stream", "document"]
    assert lead.asked == lead.answered + lead.dropped
    assert 39 <= lead.asked <= 42
    assert lead.failed == lead.answered // 3
    assert (stream.failed, stream.first.count) == (0, stream.answered)
    assert 0 < stream.first.highest <= stream.answer.highest < 10
    assert lead.first.count == 0
    assert slow.dropped > slow.answered > 0


def test_a_request_is_asked_when_it_began_and_answered_when_it_ended(tmp_path: Path) -> None:
    found = read_timeline(written(tmp_path, line("http_req_duration", BEGAN + 5.5, 4_000, "chat")), 60)
    assert {time - BEGAN: (slot.asked, slot.answered) for time in found.times for slot in found.at(time)} == {
        1.0: (1, 0),
        5.0: (0, 1),
    }


def test_of_what_is_measured_only_what_is_drawn_is_read(tmp_path: Path) -> None:
    cut_off = line("http_req_duration", BEGAN, 5, "chat")[:-9]
    head = b'{"type":"Metric","data":{"name":"http_req_duration","type":"trend"},"metric":"http_req_duration"}\n'
    path = written(tmp_path, head, line("http_req_blocked", BEGAN, 5, "chat"), cut_off)
    assert read_timeline(path, 60).times == []


def test_a_packed_file_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    lines = b"".join(line("http_req_duration", BEGAN + n / 100, n % 97 + 0.123, "chat") for n in range(5_000))
    path = tmp_path / "k6.json.gz"
    path.write_bytes(gzip.compress(lines)[:-2_000])
    assert 0 < whole(read_timeline(path, 60), "chat").answered < 5_000


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, b'"http_req_duration" is no JSON\n')
    with pytest.raises(ValueError, match=r"k6\.json, line 1, is no output of k6"):
        read_timeline(path, 60)


def test_a_run_of_any_length_has_few_stretches_of_whole_seconds() -> None:
    assert [width(length) for length in (0.0, 2.0, POINTS, POINTS * 2.5, 3_600.0)] == [1, 1, 1, 3, 40]


def test_the_verdict_says_what_was_carried() -> None:
    said = sentence(result(scenario(checks=(check(), check("failed", None, 1.0, "%")))))
    assert said.startswith("Passed: one replica of small carried 1/3 of its load")
    assert "1 threshold could not be judged" in said


def test_the_verdict_claims_no_load_that_was_not_judged() -> None:
    twice, beyond = scenario("stress-2x", factor=2.0), scenario("stress-5x", factor=5.0, checks=(check(seen=None),))
    assert "up to 2 times over (2,440 requests" in sentence(result(twice, beyond))
    assert "times over" not in sentence(result(scenario(), beyond))


def test_the_verdict_names_the_first_failure() -> None:
    said = sentence(result(scenario(checks=(check(), check("stream answer p99", 4.1, 3.0)))))
    assert said == ("Failed: small missed 1 of 2 thresholds; average: stream answer p99 was 4.1 s, above 3 s.")


def test_the_verdict_says_why_a_scenario_ended_early() -> None:
    said = sentence(result(scenario(checks=(check(seen=9.0),), aborted="half of the requests failed")))
    assert "average was ended early: half of the requests failed" in said


def test_a_figure_that_got_worse_fails_the_gate_by_itself() -> None:
    said = sentence(result(compared=(WORSE,)))
    assert said == "Failed: small takes more than before in 1 figure; chat answer p50 is 1.50 times the baseline."


def test_pairs_without_thresholds_pass_by_what_was_compared() -> None:
    fine = replace(WORSE, worse=False)
    assert sentence(result(scenario(checks=()), compared=(fine, fine))) == (
        "Passed: small takes no more than before in 2 figures."
    )


def test_what_was_not_measured_has_not_passed() -> None:
    assert sentence(result(scenario(checks=(check(seen=None),)))).startswith("Not judged")


def parsed(found: GateResult) -> ElementTree.Element:
    return ElementTree.fromstring(junit(found))


def test_junit_counts_what_failed_and_what_was_not_judged() -> None:
    checks = (check(), check("b", 2.0), check("c", None))
    root = parsed(result(scenario(checks=checks), scenario("spike"), compared=(WORSE,)))
    suites = {suite.attrib["name"]: suite.attrib for suite in root}
    assert list(suites) == ["small: average", "small: spike", "small: comparison"]
    counts = {name: (each["tests"], each["failures"], each["skipped"]) for name, each in suites.items()}
    assert counts["small: average"] == ("3", "1", "1")
    assert counts["small: spike"] == ("2", "0", "0")
    assert counts["small: comparison"] == ("1", "1", "0")
    assert (root.attrib["tests"], root.attrib["failures"], root.attrib["skipped"]) == ("6", "2", "1")


def test_junit_says_why() -> None:
    checks = (check("b", 2.0), check("c", None))
    strange = replace(check("d", 2.0), why="said\x1b[0m & <over>")
    silent = replace(check("e", 2.0), why="")
    root = parsed(result(scenario(checks=(*checks, strange, silent))))
    said = [each.attrib["message"] for each in (*root.iter("failure"), *root.iter("skipped"))]
    assert said == [
        "was 2 s, above 1 s",
        "said�[0m & <over>",
        "2 s, limit 1 s",
        "too few samples: 12 of 1,000",
    ]


def lines_of(data: BoardData, title: str) -> dict[str, list[float]]:
    panel = next(each for each in data.panels if each.panel.title == title)
    return {series.name: [value for _time, value in series.points] for series in panel.series}


def test_the_charts_show_rates_times_failures_and_what_was_dropped(tmp_path: Path) -> None:
    points = [line("http_req_duration", BEGAN + n / 10, 200 + n, "chat") for n in range(1, 21)]
    path = written(
        tmp_path,
        *points,
        line("http_req_duration", BEGAN + 2.5, 50, "lead"),
        line("requests_failed", BEGAN + 2.5, 1, "lead"),
        line("http_req_duration", BEGAN + 1.5, 9_000, "warm-up"),
        line("dropped_iterations", BEGAN + 2.6, 3, "lead"),
    )
    found = charts(result(), read_timeline(path, 60), ())
    assert sum(lines_of(found, "Rate asked and got")["asked"]) == 25
    assert sum(lines_of(found, "Rate asked and got")["answered"]) == 22
    assert {kind: sum(each) for kind, each in lines_of(found, "Failed requests by kind").items()} == {"lead": 1}
    assert sum(lines_of(found, "Dropped: k6 could not begin them")["lead"]) == 3
    assert set(lines_of(found, "Time to answer by kind (p50)")) == {"lead", "chat"}
    times = lines_of(found, "Questions: time to answer")
    assert max(times["slowest"]) == pytest.approx(0.22, abs=0.001)
    assert set(times) == {"p50", "slowest", "promised p50", "promised p99"}, "too few for a p95"
    assert set(times["promised p99"]) == {3.0}


def test_processor_that_is_scraped_seldom_has_lines_and_no_gaps() -> None:
    scraped = Series("api", {}, [(0.0, 0.2), (15.0, 0.3), (45.0, 0.1)], Style("short"), "A")
    found = {data.panel.title: data for data in charts(result(), Timeline(5.0, {}), [scraped]).panels}
    assert found["Processor of our processes (cores)"].step == 15.0


def test_every_scenario_is_marked_on_the_charts() -> None:
    found = charts(result(scenario("smoke"), scenario("spike")), Timeline(1.0, {}), ())
    assert [span.name for span in found.spans] == ["smoke", "spike"]


def test_the_report_holds_everything_and_loads_nothing(tmp_path: Path) -> None:
    found = result(scenario(checks=(check("<b>", 4.0),)), notes=("One & only.",), compared=(WORSE,))
    series = written(tmp_path, *(line("http_req_duration", BEGAN + n, 20, "chat") for n in range(60)))
    paths = {path.name: path for path in report(found, series, None, tmp_path / "out")}
    assert set(paths) == {"report.html", "junit.xml", "gate.json", "charts.png"}
    assert read(paths["gate.json"]) == found
    assert paths["charts.png"].read_bytes().startswith(b"\x89PNG")
    page = paths["report.html"].read_text()
    for said in (sentence(found), "<b>", "One & only."):
        assert said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in page
    assert "There are no dashboards of this run" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_the_page_has_a_line_for_every_endpoint_and_for_all_questions(tmp_path: Path) -> None:
    questions = replace(scenario().endpoints[0], kind=Kind.QUESTION, asked=2_400, good=2_390)
    report(result(scenario(questions=questions)), None, None, tmp_path)
    page = (tmp_path / "report.html").read_text()
    found = [re.findall(r">([^<]*)</td>", row) for row in page.split("<tr>") if row.startswith("<td>")]
    lines = {row[0]: row[1:4] for row in found if row and row[0] in {"chat", "stream", "lead", "question"}}
    assert lines == {
        "chat": ["1,200", "3", "99.2 %"],
        "stream": ["1,200", "0", "100 %"],
        "lead": ["40", "0", "100 %"],
        "question": ["2,400", "3", "99.6 %"],
    }


def test_a_prometheus_that_is_away_costs_the_dashboards_only(tmp_path: Path) -> None:
    report(result(), None, "http://127.0.0.1:9", tmp_path)
    assert "The dashboards could not be drawn: no Prometheus answers at http://127.0.0.1:9" in (
        (tmp_path / "report.html").read_text()
    )


class Watched(FakePrometheus):
    """Answers every query about processors with one series over the run, and others with nothing."""

    def __init__(self, _address: str) -> None:
        super().__init__()

    async def __aenter__(self) -> "Watched":
        return self

    async def __aexit__(self, *_: object) -> None:
        """There is nothing to close."""

    async def over(self, expr: str, window: Window) -> list[Found]:
        if "process_cpu_seconds_total" not in expr:
            return []
        times = [window.start + number * window.step for number in range(int(window.length // window.step) + 1)]
        return [Found({"job": "trellis-api", "version": "1"}, [(time, 0.25) for time in times])]


def test_the_dashboards_of_the_run_are_drawn_with_its_scenarios_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "Prometheus", Watched)
    monkeypatch.setattr(boards, "UIDS", ("trellis-release",))
    names = {path.name for path in report(result(scenario("stress-2x")), None, "http://there", tmp_path)}
    assert {"charts.png", "trellis-release.png"} <= names
    page = (tmp_path / "report.html").read_text()
    assert "Trellis: release" in page
    assert "Processor of our processes (cores)" in page
    assert page.count("<td>stress-2x</td>") == 2, "once on the charts, once on the dashboard"


@pytest.mark.parametrize("uid", boards.UIDS)
def test_every_dashboard_of_the_report_is_there(uid: str) -> None:
    assert read_board(json.loads((BOARDS / f"{uid}.json").read_bytes())).panels


def test_a_scenario_without_figures_is_drawn(tmp_path: Path) -> None:
    bare = scenario(endpoints=(), parts=(), checks=(), own_share=None, aborted="k6 could not begin")
    paths = report(replace(result(bare), ended=BEGAN), None, None, tmp_path)
    assert all(path.exists() for path in paths)
