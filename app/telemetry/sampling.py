"""Which traces are kept: a share of all, drawn when a trace begins, and each that failed or was slow, seen at its end.

See docs/decisions/0037-traces.md. A trace that was not drawn is recorded in outline: the spans of the app's own, in
memory, until the part of it that this process began has ended.
"""

import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceState
from opentelemetry.util.types import Attributes

from app.telemetry import names
from app.telemetry.outline import Outline, is_drawn

MAX_TRACES: Final = 5_000
MAX_SPANS: Final = 1_000
"""Of one trace that waits for its end."""
MAX_WAITING: Final = 20_000
"""Spans of all traces that wait, about 40 MB."""
LASTING: Final = 10.0
"""How many times longer than a request a job or a stream may take before it counts as slow."""

Give = Callable[[ReadableSpan], None]
"""Takes a span that is kept."""


class RootSampler(Sampler):
    """Draws a share of the traces that begin here; what belongs to a trace goes the way of its beginning.

    A trace is taken up from a job or a message as its sender, one of our processes, decided. Of a request only the
    trace's id is taken: anybody can send a traceparent, and could have every request of theirs kept, or none. The draw
    is by chance and not by the id, which a caller chooses. `trust` takes the caller's word. What was drawn from more
    says so, for a collector not to draw again.

    Args:
        ratio: 0 to 1.
    """

    def __init__(self, ratio: float, *, trust: bool, draw: Callable[[], float] = random.random) -> None:
        self._ratio = ratio
        self._trust = trust
        self._draw = draw

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,  # noqa: ARG002
        name: str,  # noqa: ARG002
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,  # noqa: ARG002
        trace_state: TraceState | None = None,  # noqa: ARG002
    ) -> SamplingResult:
        parent = trace.get_current_span(parent_context).get_span_context()
        if not (is_drawn(parent_context) or self.draws(parent, kind)):
            return SamplingResult(Decision.DROP)
        if self._ratio < 1 and not self._follows(parent, kind):
            attributes = {**(attributes or {}), names.DRAWN: True}
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def draws(self, parent: SpanContext, kind: SpanKind | None) -> bool:
        """Whether a span with that parent is in a sampled trace; draws where a trace begins with it."""
        return parent.trace_flags.sampled if self._follows(parent, kind) else self._draw() < self._ratio

    def _follows(self, parent: SpanContext, kind: SpanKind | None) -> bool:
        return parent.is_valid and (not parent.is_remote or kind is not SpanKind.SERVER or self._trust)

    def get_description(self) -> str:
        return f"RootSampler({self._ratio})"


@dataclass(slots=True)
class _Waiting:
    """The spans of a trace that was not drawn. `roots`: parts of it that began in this process and have not ended."""

    roots: int = 0
    kept: bool = False
    spans: list[Outline] = field(default_factory=list)


class Tail(SpanProcessor):
    """Hands on each span of a sampled trace as it ends, and the spans of another one where it failed or was slow.

    Bounded in every direction: the trace that has waited longest gives way, spans beyond the bounds are told to
    `dropped`. May be called from any thread.

    Args:
        slow_s: seconds from which on a request counts as slow; a job or a stream from ten times that on.
        dropped: is told how many spans found no room.
    """

    def __init__(self, give: Give, slow_s: float, dropped: Callable[[int], None]) -> None:
        self._give = give
        self._slow_ns = int(slow_s * 1e9)
        self._dropped = dropped
        self._lock = threading.Lock()
        self._open: OrderedDict[int, _Waiting] = OrderedDict()
        self._kept: OrderedDict[int, None] = OrderedDict()
        self._spans = 0

    def on_end(self, span: ReadableSpan) -> None:
        """Of a span that the SDK recorded: its trace was drawn."""
        self._give(span)

    def begun(self, span: Outline) -> None:
        if not _begins(span):
            return
        trace_id = span.context.trace_id
        with self._lock:
            waiting = self._open.get(trace_id)
            if waiting is None:
                waiting = self._open[trace_id] = _Waiting(kept=trace_id in self._kept)
                self._make_room()
            waiting.roots += 1

    def ended(self, span: Outline) -> None:
        with self._lock:
            kept = self._ended(span.context.trace_id, span)
        for one in kept:
            self._give(one.filled())

    def shutdown(self) -> None:
        with self._lock:
            self._open.clear()
            self._kept.clear()
            self._spans = 0

    def _ended(self, trace_id: int, span: Outline) -> Sequence[Outline]:
        """What is to be handed on now."""
        waiting = self._open.get(trace_id)
        if waiting is None:
            # A task that outlived its request: it shares the fate of its trace.
            return (span,) if trace_id in self._kept else ()
        begins = _begins(span)
        if _failed(span) or (begins and self._slow(span)):
            waiting.kept = True
        told = self._take(waiting, span)
        if begins:
            waiting.roots -= 1
            if waiting.roots <= 0:
                self._forget(trace_id, waiting)
        return told

    def _take(self, waiting: _Waiting, span: Outline) -> Sequence[Outline]:
        if waiting.kept:
            told = [*waiting.spans, span]
            self._spans -= len(waiting.spans)
            waiting.spans.clear()
            return told
        if len(waiting.spans) < MAX_SPANS and self._spans < MAX_WAITING:
            waiting.spans.append(span)
            self._spans += 1
        else:
            self._dropped(1)
        return ()

    def _forget(self, trace_id: int, waiting: _Waiting) -> None:
        del self._open[trace_id]
        self._spans -= len(waiting.spans)
        if waiting.kept:
            self._kept[trace_id] = None
            if len(self._kept) > MAX_TRACES:
                self._kept.popitem(last=False)

    def _make_room(self) -> None:
        if len(self._open) > MAX_TRACES:
            _, oldest = self._open.popitem(last=False)
            self._spans -= len(oldest.spans)
            self._dropped(len(oldest.spans))

    def _slow(self, span: Outline) -> bool:
        assert span.end_time is not None
        lasts = span.kind is not SpanKind.SERVER or bool(span.attributes.get(names.LASTS))
        return span.end_time - span.start_time > self._slow_ns * (LASTING if lasts else 1.0)


def _begins(span: Outline) -> bool:
    """Whether a trace, or this process's part of one, begins with the span."""
    return span.parent is None or span.parent.is_remote


def _failed(span: Outline) -> bool:
    return span.status.status_code is StatusCode.ERROR
