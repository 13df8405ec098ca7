"""The last traces in the data folder, and how one of them is drawn."""

import sqlite3
import stat
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from typer.testing import CliRunner

from app.cli import cli
from app.errors import ConfigError, NotFound
from app.telemetry import kept, names
from app.telemetry.kept import FILE, KeptTraces, TraceReader
from app.telemetry.tree import BAR, lines

MS = 1_000_000
SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def span(
    trace: int,
    number: int,
    parent: int | None = None,
    *,
    start: int = 0,
    end: int = 10,
    name: str = "",
    failed: bool = False,
    **attributes: str,
) -> ReadableSpan:
    """Times in milliseconds."""

    def context(span_id: int) -> SpanContext:
        return SpanContext(trace, span_id, is_remote=False, trace_flags=SAMPLED)

    return ReadableSpan(
        name=name or f"span {number}",
        context=context(number),
        parent=context(parent) if parent else None,
        resource=Resource({names.SERVICE: "trellis-api"}),
        attributes={name.replace("__", "."): value for name, value in attributes.items()},
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
        start_time=start * MS,
        end_time=end * MS,
    )


def hex_of(trace: int) -> str:
    return f"{trace:032x}"


def test_the_last_traces_outlive_their_process_and_older_ones_give_way(tmp_path: Path) -> None:
    for number in range(1, 6):
        # A writer each: a process that was started anew.
        KeptTraces(tmp_path, most=3).export([span(number, number, start=number, end=number + 1)])
    assert [one.trace for one in TraceReader(tmp_path).last(10)] == [hex_of(5), hex_of(4), hex_of(3)]
    assert TraceReader(tmp_path).spans(hex_of(1)) == []
    with sqlite3.connect(tmp_path / FILE) as connection:
        assert connection.execute("SELECT count(*) FROM spans").fetchone() == (3,)


def test_a_trace_of_two_processes_is_one_and_its_listing_tells_how_it_began(tmp_path: Path) -> None:
    api, worker = KeptTraces(tmp_path, 10), KeptTraces(tmp_path, 10)
    worker.export([span(1, 2, 1, start=5, end=90, name="job", failed=True)])
    api.export([span(1, 1, start=0, end=10, name="POST /v1/leads")])
    (listed,) = TraceReader(tmp_path).last(10)
    assert (listed.name, listed.spans, listed.failed, listed.end - listed.start) == ("POST /v1/leads", 2, True, 90 * MS)
    assert [one.name for one in TraceReader(tmp_path).spans(listed.trace)] == ["POST /v1/leads", "job"]


def test_a_trace_is_found_by_its_id_its_start_and_the_ids_on_its_spans(tmp_path: Path) -> None:
    writer, trace = KeptTraces(tmp_path, 10), 0xABCDEF0123456789ABCDEF0123456789
    writer.export([span(trace, 1, trellis__request__id="req_1"), span(trace, 2, 1, trellis__decision__id="dec_1")])
    writer.export([span(1, 3)])
    reader = TraceReader(tmp_path)
    for wanted in (hex_of(trace), hex_of(trace).upper(), "abcdef01", "req_1", "dec_1"):
        assert reader.find(wanted) == [hex_of(trace)], wanted
    for wanted in ("abcdef", "req_", "%", "", "abcdef02", "' OR 1=1 --"):
        assert reader.find(wanted) == [], wanted


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    KeptTraces(tmp_path, 10).export([span(1, 1)])
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


def test_a_trace_without_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_SPANS", 5)
    for start in range(0, 9, 3):
        KeptTraces(tmp_path, 10).export([span(1, start + number) for number in (1, 2, 3)])
    assert len(TraceReader(tmp_path).spans(hex_of(1))) == 5


def test_a_folder_that_cannot_be_written_costs_spans_and_no_work(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    assert KeptTraces(tmp_path, 10).export([span(1, 1)]) is SpanExportResult.FAILURE


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match="delete the file"):
        TraceReader(tmp_path).last(5)


def test_nothing_kept_is_an_empty_list(tmp_path: Path) -> None:
    reader = TraceReader(tmp_path)
    assert (reader.last(5), reader.find("abcdef01"), reader.spans("x")) == ([], [], [])


def test_a_tree_has_each_span_under_its_parent_with_its_time_in_the_whole(tmp_path: Path) -> None:
    KeptTraces(tmp_path, 10).export(
        [
            span(1, 4, 2, start=30, end=40, name="SELECT", failed=True, db__query__text="SELECT x\nFROM leads"),
            span(1, 2, 1, start=25, end=50, name="agent"),
            span(1, 1, start=0, end=100, name="request"),
            span(1, 3, 1, start=10, end=20, name="first"),
            span(1, 5, 9, start=60, end=70, name="of another process"),
        ]
    )
    tree = lines(TraceReader(tmp_path).spans(hex_of(1)))
    assert [(line.depth, line.name) for line in tree] == [
        (0, "request"),
        (1, "first"),
        (1, "agent"),
        (2, "SELECT leads"),
        (0, "of another process"),
    ]
    request, _, agent, statement, other = tree
    assert request.bar == "█" * BAR
    assert (agent.begins, agent.lasts, agent.bar.index("█"), agent.bar.count("█")) == (0.025, 0.025, 6, 6)
    assert (statement.failed, agent.failed) == (True, False)
    assert (other.orphan, request.orphan) == (True, False)


def test_a_thousand_spans_one_in_the_other_are_drawn(tmp_path: Path) -> None:
    KeptTraces(tmp_path, 1).export([span(1, number, number - 1 or None) for number in range(1, 1001)])
    assert max(line.depth for line in lines(TraceReader(tmp_path).spans(hex_of(1)))) == 999


def ask(home: Path, *words: str, **environment: str) -> str:
    told = {"TRELLIS_HOME": str(home), "COLUMNS": "160", **environment}
    return CliRunner().invoke(cli, ["trace", *words], env=told, catch_exceptions=False).output


def test_the_command_lists_and_shows_what_is_kept(tmp_path: Path) -> None:
    assert "No trace is kept yet" in ask(tmp_path)
    KeptTraces(tmp_path, 10).export(
        [
            span(1, 1, start=0, end=100, name="POST /v1/leads", trellis__request__id="req_1"),
            span(1, 2, 1, start=5, end=10, name="chat m", failed=True, error__type="ModelTimeout"),
        ]
    )
    listed = ask(tmp_path)
    assert hex_of(1) in listed
    assert "failed" in listed
    shown = ask(tmp_path, "req_1")
    assert f"Trace {hex_of(1)}, 2 spans in 100 ms" in shown
    assert "chat m failed  ModelTimeout" in shown


def test_the_command_says_why_there_is_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no trace of 'req_9' among the last 200 .*: it is older"):
        ask(tmp_path, "req_9")
    with pytest.raises(NotFound, match="10% of all are kept"):
        ask(tmp_path, "req_9", TRELLIS_TRACE_SAMPLE="0.1")
    with pytest.raises(ConfigError, match=r"collector at http://collector:4318"):
        ask(tmp_path, "req_9", TRELLIS_OTLP_URL="http://collector:4318")
    with pytest.raises(ConfigError, match="TRELLIS_TRACES_KEPT is 0"):
        ask(tmp_path, "req_9", TRELLIS_TRACES_KEPT="0")
