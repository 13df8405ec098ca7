"""Spans of traces that were not drawn: as much of them as it takes to keep the trace where it fails or is slow.

Most requests end well and their spans are forgotten. The SDK's span guards its attributes with locks and limits, which
costs most of what telemetry costs a request; what is written down here is copied into one of those when it is kept.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import Attributes, AttributeValue

SCOPE: Final = "trellis"
_DRAWN: Final = contexts.create_key("trellis.drawn")
_UNSET: Final = Status(StatusCode.UNSET)
_NOT_SAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)

Draws = Callable[[SpanContext, SpanKind], bool | None]
"""Whether a span with that parent is part of a drawn trace; None where nothing is recorded at all."""


def is_drawn(parent: Context | None) -> bool:
    """Whether the draw for a span that is about to begin was made already, and won."""
    return bool(contexts.get_value(_DRAWN, parent))


class Outline(trace.Span):
    """One span, recorded in outline. Belongs to one task at a time, as our spans do: it needs no lock."""

    def __init__(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Attributes,
        start_time: int,
        ended: Callable[["Outline"], None],
    ) -> None:
        self.name = name
        self.context = context
        self.parent = parent
        self.kind = kind
        self.attributes: dict[str, AttributeValue] = dict(attributes or {})
        self.status = _UNSET
        self.start_time = start_time
        self.end_time: int | None = None
        self._ended = ended

    def get_span_context(self) -> SpanContext:
        return self.context

    def is_recording(self) -> bool:
        return self.end_time is None

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self.attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        self.attributes.update(attributes)

    def update_name(self, name: str) -> None:
        self.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self.status = status if isinstance(status, Status) else Status(status, description)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """An outline has none."""

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """An outline has none."""

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """An outline has none: a failed span says the kind of error in its status."""

    def end(self, end_time: int | None = None) -> None:
        if self.end_time is None:
            self.end_time = end_time or time.time_ns()
            self._ended(self)

    def filled(self) -> ReadableSpan:
        """The span as one of a sampled trace, for exporters that pass over all others."""
        known = self.context
        sampled = SpanContext(
            known.trace_id, known.span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)
        )
        return ReadableSpan(
            name=self.name,
            context=sampled,
            parent=self.parent,
            resource=Resource.get_empty(),
            attributes=self.attributes,
            kind=self.kind,
            status=self.status,
            start_time=self.start_time,
            end_time=self.end_time,
            instrumentation_scope=InstrumentationScope(SCOPE),
        )


class OutlineTracer(trace.Tracer):
    """Begins the SDK's spans in drawn traces, and outlines in all others.

    `begun` and `ended` are told of outlines; the SDK's tell their processors themselves.
    """

    def __init__(
        self,
        drawn: trace.Tracer,
        draws: Draws,
        begun: Callable[[Outline], None],
        ended: Callable[[Outline], None],
    ) -> None:
        self._drawn = drawn
        self._draws = draws
        self._begun = begun
        self._ended = ended
        self._ids = RandomIdGenerator()

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Any = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        parent = trace.get_current_span(context).get_span_context()
        drawn = self._draws(parent, kind)
        if drawn is False:
            return self._outline(name, parent, kind, attributes, start_time)
        where = contexts.set_value(_DRAWN, True, context) if drawn else context
        return self._drawn.start_span(
            name, where, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )

    def _outline(
        self, name: str, parent: SpanContext, kind: SpanKind, attributes: Attributes, start_time: int | None
    ) -> Outline:
        trace_id = parent.trace_id if parent.is_valid else self._ids.generate_trace_id()
        own = SpanContext(trace_id, self._ids.generate_span_id(), is_remote=False, trace_flags=_NOT_SAMPLED)
        begun = start_time or time.time_ns()
        span = Outline(name, own, parent if parent.is_valid else None, kind, attributes, begun, self._ended)
        self._begun(span)
        return span

    @contextmanager
    def start_as_current_span(self, name: str, *given: Any, **more: Any) -> Iterator[trace.Span]:  # type: ignore[override]
        end_on_exit = more.pop("end_on_exit", True)
        with trace.use_span(self.start_span(name, *given, **more), end_on_exit=end_on_exit) as span:
            yield span
