"""The last door of every span, ours or a library's: what leaves the process has been masked here."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, Status
from opentelemetry.util.types import AttributeValue

from app.telemetry import names

Scrub = Callable[[Any], Any]
Count = Callable[[str, int], None]
"""Is told `exported` or `failed`, and how many spans."""

# A library's words for an error quote what it was sent or was answered.
_LEFT_OUT: Final = frozenset({names.EXCEPTION_MESSAGE, names.EXCEPTION_STACK, names.URL_QUERY})
_ADDRESSES: Final = frozenset({names.URL_FULL, "http.url", "http.target"})


class MaskedExporter(SpanExporter):
    """Masks every span, names the process that it is of, and hands it on.

    Personal data and secrets are masked by their shape in names, attributes, events, links and statuses (`scrub`).
    Left out altogether, whatever they look like: query strings, an exception's words and its stack. Runs on the
    exporter's thread, never on the event loop.

    Args:
        scrub: masks a value of any depth (`governance.privacy.scrub`).
    """

    def __init__(self, inner: SpanExporter, scrub: Scrub, resource: Resource, count: Count) -> None:
        self._inner = inner
        self._scrub = scrub
        self._resource = resource
        self._count = count

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export([self._masked(span) for span in spans])
        finally:
            self._count("exported" if result is SpanExportResult.SUCCESS else "failed", len(spans))
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)

    def _masked(self, span: ReadableSpan) -> ReadableSpan:
        return ReadableSpan(
            name=self._scrub(span.name),
            context=_without_state(span.context),
            parent=_without_state(span.parent),
            resource=self._resource,
            attributes=self._attributes(span.attributes),
            events=[Event(self._scrub(e.name), self._attributes(e.attributes), e.timestamp) for e in span.events],
            links=[Link(_known(link.context), self._attributes(link.attributes)) for link in span.links],
            kind=span.kind,
            status=Status(span.status.status_code, self._described(span.status)),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def _attributes(self, attributes: Mapping[str, AttributeValue] | None) -> dict[str, AttributeValue]:
        kept = {
            name: without_query(value) if name in _ADDRESSES else value
            for name, value in (attributes or {}).items()
            if name not in _LEFT_OUT
        }
        masked: dict[str, AttributeValue] = self._scrub(kept)
        return masked

    def _described(self, status: Status) -> str | None:
        """The kind of an error, which libraries put before a colon and its words."""
        if not status.is_ok and status.description:
            return str(self._scrub(status.description.partition(":")[0]))
        return None


def without_query(address: Any) -> str:
    """An address up to its path: what follows, and who signs in, is nobody's to read."""
    try:
        parts = urlsplit(str(address))
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return "[address]"


def _known(context: SpanContext) -> SpanContext:
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)


def _without_state(context: SpanContext | None) -> SpanContext | None:
    """A tracestate is a stranger's own text."""
    return None if context is None else _known(context)
