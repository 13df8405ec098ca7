"""How the app opens spans. Their names and attributes are in `app.telemetry.names`."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Final

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from app.errors import TrellisError
from app.telemetry import names
from app.telemetry.outline import SCOPE

Attributes = Mapping[str, AttributeValue]
# As a context manager it does nothing, and it may be entered any number of times.
_NO_SPAN: Final = nullcontext(trace.INVALID_SPAN)
_FAILED: Final = Status(StatusCode.ERROR)


def tracer() -> trace.Tracer:
    """The app's tracer: free of cost until a tracer provider is set up."""
    return _tracer_of(trace.get_tracer_provider())


# The SDK makes a new tracer for each who asks, which costs more than a span that is not sampled.
@lru_cache(maxsize=4)
def _tracer_of(provider: trace.TracerProvider) -> trace.Tracer:
    return provider.get_tracer(SCOPE)


@contextmanager
def span(
    name: str,
    attributes: Attributes,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: Context | None = None,
) -> Iterator[trace.Span]:
    """A span around a block. It shows which kind of error passed, but not its words, which may quote an answer.

    `parent`: of another process (`continued`), in place of the current span.
    """
    opened = tracer().start_span(name, parent, kind, attributes)
    token = context.attach(trace.set_span_in_context(opened, parent))
    try:
        yield opened
    except Exception as error:
        fail(opened, error)
        raise
    finally:
        context.detach(token)
        opened.end()


def detail(name: str, attributes: Attributes) -> AbstractContextManager[trace.Span]:
    """A span of a call to a store. Only a trace that is sampled has it: it begins none, and costs nothing elsewhere."""
    if not trace.get_current_span().get_span_context().trace_flags.sampled:
        return _NO_SPAN
    return span(name, attributes, SpanKind.CLIENT)


def vectors(operation: str) -> AbstractContextManager[trace.Span]:
    """A span of a call to the vector index, embedded or a server."""
    return detail(f"{operation} qdrant", {names.DB_SYSTEM: "qdrant", names.DB_OPERATION: operation})


@contextmanager
def open_span(name: str, attributes: Attributes, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[trace.Span]:
    """A span that is not the current one, for a block that yields: its consumer's work is not part of it.

    `inside` makes it the current one where the block waits.
    """
    opened = tracer().start_span(name, None, kind, attributes)
    try:
        yield opened
    except Exception as error:
        fail(opened, error)
        raise
    finally:
        opened.end()


def inside(span: trace.Span) -> AbstractContextManager[trace.Span]:
    """The span as the current one, for a block without a yield."""
    return trace.use_span(span, record_exception=False, set_status_on_exception=False)


def fail(span: trace.Span, error: Exception) -> None:
    """Notes the kind of error. What a caller did wrong (a status below 500) does not make the span a failed one."""
    if not span.is_recording():
        return
    span.set_attribute(names.ERROR_TYPE, type(error).__name__)
    if not (isinstance(error, TrellisError) and error.status < 500):
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))


def note(name: str, value: AttributeValue) -> None:
    """Sets an attribute of the current span."""
    trace.get_current_span().set_attribute(name, value)


def request(
    method: str, path: str, scheme: str, traceparent: str | None, request_id: str
) -> AbstractContextManager[trace.Span]:
    """The span of a request from outside; `answered` names it when its route is known."""
    told = {
        names.HTTP_METHOD: method,
        names.URL_PATH: path,
        names.URL_SCHEME: scheme,
        names.REQUEST_ID: request_id,
    }
    # Read only where there is one: most requests come without, and to look costs as much as the span.
    parent = continued({"traceparent": traceparent}) if traceparent else None
    return span(method, told, SpanKind.SERVER, parent)


def answered(method: str, route: str, status: int) -> None:
    """Names the request's span, which is the current one, by its route, and notes the answer: a 5xx is our failure."""
    current = trace.get_current_span()
    if not current.is_recording():
        return
    current.update_name(f"{method} {route}")
    current.set_attributes({names.HTTP_ROUTE: route, names.HTTP_STATUS: status})
    if status >= 500:
        current.set_status(_FAILED)


def carrier() -> dict[str, str]:
    """The current trace, to travel with a job or a message."""
    carried: dict[str, str] = {}
    propagate.inject(carried)
    return carried


def continued(carried: Mapping[str, str] | None) -> Context:
    """The trace that a job or a message came with."""
    return propagate.extract(carried or {})
