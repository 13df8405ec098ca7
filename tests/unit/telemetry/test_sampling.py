"""Which traces are kept."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags

from app.telemetry import names, sampling
from app.telemetry.outline import OutlineTracer
from app.telemetry.sampling import RootSampler, Tail
from tests.support.examples import examples

SLOW_S = 1.0
SECOND = 1_000_000_000


class Room:
    """A provider whose traces are drawn as the test says, and what its tail gave and dropped."""

    def __init__(self, ratio: float = 0.0, *, trust: bool = False, draw: Callable[[], float] = lambda: 0.5) -> None:
        self.given: list[ReadableSpan] = []
        self.dropped = 0
        self.tail = Tail(self.given.append, SLOW_S, self._drop)
        sampler = RootSampler(ratio, trust=trust, draw=draw)
        provider = TracerProvider(sampler=sampler)
        provider.add_span_processor(self.tail)
        self.tracer = OutlineTracer(provider.get_tracer("test"), sampler.draws, self.tail.begun, self.tail.ended)

    def _drop(self, spans: int) -> None:
        self.dropped += spans

    def start(self, name: str, parent: trace.Span | Context | None = None, kind: SpanKind = SpanKind.SERVER) -> Any:
        context = trace.set_span_in_context(parent) if isinstance(parent, trace.Span) else parent
        return self.tracer.start_span(name, context or Context(), kind, start_time=SECOND)

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.given]


def came_with(*, sampled: bool) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return trace.set_span_in_context(trace.NonRecordingSpan(SpanContext(7, 8, is_remote=True, trace_flags=flags)))


def end(span: Any, after_s: float = 0.0) -> None:
    span.end(SECOND + int(after_s * SECOND))


@pytest.mark.parametrize(("drawn", "kept"), [(0.09, True), (0.1, False), (0.99, False)])
def test_a_share_of_traces_is_drawn_whole(drawn: float, kept: bool) -> None:
    room = Room(0.1, draw=lambda: drawn)
    root = room.start("root")
    child = room.start("child", root, SpanKind.INTERNAL)
    end(child)
    end(root)
    assert room.names == (["child", "root"] if kept else [])
    assert [bool((span.attributes or {}).get(names.DRAWN)) for span in room.given] == ([False, True] if kept else [])


def test_a_strangers_word_decides_nothing_but_the_traces_id_is_taken() -> None:
    room = Room(0.0)
    span = room.start("root", came_with(sampled=True))
    assert span.get_span_context().trace_id == 7
    end(span)
    assert room.names == []
    kept = Room(1.0)
    end(kept.start("root", came_with(sampled=False)))
    assert kept.names == ["root"]
    assert names.DRAWN not in (kept.given[0].attributes or {}), "nothing was drawn: a collector may"


def test_a_trusted_caller_and_our_own_jobs_decide_for_what_they_began() -> None:
    for room, kind in ((Room(0.0, trust=True), SpanKind.SERVER), (Room(0.0), SpanKind.CONSUMER)):
        end(room.start("taken up", came_with(sampled=True), kind))
        assert room.names == ["taken up"]
    for room, kind in ((Room(1.0, trust=True), SpanKind.SERVER), (Room(1.0), SpanKind.CONSUMER)):
        end(room.start("not taken up", came_with(sampled=False), kind))
        assert room.names == []


def test_a_trace_that_failed_anywhere_is_kept_with_all_its_spans_and_marked_as_sampled() -> None:
    room = Room()
    root = room.start("root")
    first = room.start("first", root, SpanKind.INTERNAL)
    end(first)
    second = room.start("second", root, SpanKind.INTERNAL)
    second.set_status(StatusCode.ERROR)
    end(second)
    end(root)
    late = room.start("late", root, SpanKind.INTERNAL)
    end(late)
    assert room.names == ["first", "second", "root", "late"]
    assert all(span.context is not None and span.context.trace_flags.sampled for span in room.given)
    assert {span.context.trace_id for span in room.given if span.context} == {root.get_span_context().trace_id}


@pytest.mark.parametrize(
    ("kind", "lasts", "took_s", "kept"),
    [
        (SpanKind.SERVER, False, 0.9, False),
        (SpanKind.SERVER, False, 1.1, True),
        (SpanKind.SERVER, True, 9.0, False),
        (SpanKind.SERVER, True, 11.0, True),
        (SpanKind.CONSUMER, False, 9.0, False),
        (SpanKind.CONSUMER, False, 11.0, True),
    ],
)
def test_a_slow_trace_is_kept_and_jobs_and_streams_have_ten_times_as_long(
    kind: SpanKind, lasts: bool, took_s: float, kept: bool
) -> None:
    room = Room()
    span = room.start("root", None, kind)
    if lasts:
        span.set_attribute(names.LASTS, True)
    end(span, took_s)
    assert room.names == (["root"] if kept else [])


def test_a_slow_part_of_a_quick_request_keeps_nothing() -> None:
    room = Room()
    root = room.start("root")
    end(room.start("part", root, SpanKind.INTERNAL), 5)
    end(root, 0.5)
    assert room.names == []


def test_a_job_in_the_same_process_is_judged_by_itself_and_shares_a_kept_trace() -> None:
    room = Room()
    root = room.start("request")
    carried = trace.set_span_in_context(
        trace.NonRecordingSpan(
            SpanContext(root.get_span_context().trace_id, root.get_span_context().span_id, is_remote=True)
        )
    )
    end(root)
    failed = room.start("job", carried, SpanKind.CONSUMER)
    failed.set_status(StatusCode.ERROR)
    end(failed)
    end(room.start("again", carried, SpanKind.CONSUMER))
    assert room.names == ["job", "again"]


def test_what_waits_is_bounded_and_what_finds_no_room_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MAX_SPANS", 3)
    monkeypatch.setattr(sampling, "MAX_TRACES", 2)
    room = Room()
    first = room.start("first")
    for _ in range(5):
        end(room.start("part", first, SpanKind.INTERNAL))
    assert room.dropped == 2
    others = [room.start("other") for _ in range(2)]
    assert room.dropped == 5, "the first trace gave way with the three spans that it had"
    first.set_status(StatusCode.ERROR)
    end(first)
    for other in others:
        other.set_status(StatusCode.ERROR)
        end(other)
    assert room.names == ["other", "other"]


@settings(max_examples=examples(50))
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["start", "part", "fail", "end"])), max_size=60))
def test_nothing_waits_for_a_trace_that_has_ended(steps: list[tuple[int, str]]) -> None:
    room = Room()
    roots: dict[int, Any] = {}
    for number, step in steps:
        if step == "start" and number not in roots:
            roots[number] = room.start(f"root {number}")
        elif number in roots and step == "end":
            end(roots.pop(number))
        elif number in roots:
            part = room.start("part", roots[number], SpanKind.INTERNAL)
            if step == "fail":
                part.set_status(StatusCode.ERROR)
            end(part)
    for root in roots.values():
        end(root)
    assert not room.tail._open
    assert room.tail._spans == 0
    assert room.dropped == 0
