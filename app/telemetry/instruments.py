"""The contrib instrumentations, which are beta and move monthly: known here alone.

Each is applied to one object of ours, an engine, a client, a session: nothing of a library is patched for the whole
process. The tracer that they get opens spans within a sampled trace only, so that a statement of any other trace, or
of none (a poll, a health check), costs next to nothing. See docs/decisions/0037-traces.md.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import aiohttp
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation._semconv import _StabilityMode
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NonRecordingSpan, Span, Tracer, TracerProvider
from redis.asyncio import Redis, RedisCluster
from sqlalchemy.ext.asyncio import AsyncEngine

SEMCONV: Final = ("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
_SILENT: Final = NoOpMeterProvider()


class Instruments:
    """Puts spans around what our clients do; without a provider it leaves them as they are."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = _Within(provider) if provider is not None else None
        # The libraries read it once, when the first of them is instrumented.
        os.environ.setdefault(*SEMCONV)

    def engine(self, engine: AsyncEngine) -> None:
        """A span for each statement, with its text, in which values are placeholders."""
        if self._provider is not None:
            tracer = self._provider.get_tracer("sqlalchemy")
            _Statements(tracer, engine.sync_engine, None)  # type: ignore[no-untyped-call]

    def redis(self, client: Redis | RedisCluster) -> None:
        """A span for each command or pipeline, with the commands' names and no key."""
        if self._provider is not None:
            RedisInstrumentor.instrument_client(client, tracer_provider=self._provider)

    def trace_configs(self) -> list[aiohttp.TraceConfig]:
        """For an aiohttp session: a span for each request without its query, and a traceparent for who is asked."""
        if self._provider is None:
            return []
        return [
            create_trace_config(
                url_filter=lambda url: str(url.with_query(None).with_fragment(None).with_user(None)),
                tracer_provider=self._provider,
                meter_provider=_SILENT,
                # Made by hand, it reads no environment.
                sem_conv_opt_in_mode=_StabilityMode.HTTP,
            )
        ]


class _Statements(EngineTracer):
    """The library's, which collects attributes before it knows whether a span is wanted, and counts connections."""

    def _before_cur_exec(self, conn: Any, cursor: Any, statement: Any, params: Any, context: Any, many: Any) -> Any:
        if not _sampled():
            return statement, params
        return super()._before_cur_exec(conn, cursor, statement, params, context, many)  # type: ignore[no-untyped-call]

    def _operation_name(self, _database: str | None, statement: str) -> Any:
        # An embedded database's name is the path of a file.
        return super()._operation_name(None, statement)  # type: ignore[no-untyped-call]

    def _add_idle_to_connection_usage(self, value: int) -> None:
        """Pools are in the catalogue of metrics."""

    def _add_used_to_connection_usage(self, value: int) -> None:
        """Pools are in the catalogue of metrics."""


class _Within(TracerProvider):
    """Gives tracers that open spans only within a sampled trace."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        return _WithinTracer(self._provider.get_tracer(*args, **kwargs))


class _WithinTracer(Tracer):
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start_span(self, name: str, context: Context | None = None, *args: Any, **kwargs: Any) -> Span:
        if _sampled(context):
            return self._tracer.start_span(name, context, *args, **kwargs)
        # Who is asked shall know the trace, and that nobody keeps it.
        return NonRecordingSpan(trace.get_current_span(context).get_span_context())

    @contextmanager
    def start_as_current_span(  # type: ignore[override]
        self, name: str, context: Context | None = None, *args: Any, **kwargs: Any
    ) -> Iterator[Span]:
        if not _sampled(context):
            yield trace.INVALID_SPAN
            return
        with self._tracer.start_as_current_span(name, context, *args, **kwargs) as span:
            yield span


def _sampled(context: Context | None = None) -> bool:
    return trace.get_current_span(context).get_span_context().trace_flags.sampled
