"""Traces of one process: opened once from the container, flushed and closed with it.

OpenTelemetry has one tracer provider a process, which libraries ask for and which can be set only once; containers
come and go. So the provider is set at the first one and stays, and what it does is what the container that was opened
last wants; with none open it records nothing.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import CarrierT, Getter, default_getter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler, SamplingResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.re import parse_env_headers

from app.settings import Settings, revealed
from app.telemetry.instruments import Instruments
from app.telemetry.kept import KeptTraces
from app.telemetry.masking import MaskedExporter, Scrub
from app.telemetry.outline import SCOPE, Outline, OutlineTracer
from app.telemetry.sampling import RootSampler, Tail

QUEUE: Final = 8_192
"""Spans that wait to be sent: what a collector that is away costs in memory, about 16 MB."""
BATCH: Final = 256
DELAY_S: Final = 1.0
SEND_S: Final = 5.0
"""For one batch, its repetitions with it."""
LEAST_CLOSE_S: Final = 0.5
MOST_CLOSE_S: Final = 5.0
_log = structlog.get_logger(__name__)

Count = Callable[[str, int], None]
"""Is told `exported`, `failed` or `dropped`, and how many spans."""


class Propagator(TraceContextTextMapPropagator):
    """W3C trace context, and no more of a caller: tracestate and baggage are texts of strangers, which would travel on
    to model providers and vendors."""

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        found = super().extract(carrier, context, getter)
        known = trace.get_current_span(found).get_span_context()
        if not known.trace_state:
            return found
        bare = trace.SpanContext(known.trace_id, known.span_id, known.is_remote, known.trace_flags)
        return trace.set_span_in_context(trace.NonRecordingSpan(bare), found)


class Tracing:
    """Open: spans are sampled, masked and handed to a collector or to the data folder, by a thread of its own."""

    def __init__(self, settings: Settings, resource: Resource, scrub: Scrub, count: Count) -> None:
        self.sampler = RootSampler(settings.sample_ratio, trust=settings.trace_trusts_callers)
        self._count = count
        self._lock = threading.Lock()
        self._waiting = 0
        self._exporter = MaskedExporter(_exporter(settings), scrub, resource, self._left)
        self._batches = BatchSpanProcessor(
            self._exporter, max_queue_size=QUEUE, schedule_delay_millis=DELAY_S * 1000, max_export_batch_size=BATCH
        )
        self.tail = Tail(self._give, settings.slow_s, self._dropped)
        self.closed = False

    def flush(self) -> None:
        """Sends what has ended. Blocks: for a thread, or a test."""
        self._batches.force_flush()

    async def close(self, seconds: float) -> None:
        """Sends what is left, as far as the time allows; what is not sent then counts as dropped."""
        self.closed = True
        self.tail.shutdown()
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def end() -> None:
            self._batches.shutdown()  # type: ignore[no-untyped-call]
            loop.call_soon_threadsafe(done.set)

        # Not the loop's own threads: the process would wait for them.
        threading.Thread(target=end, name="traces-close", daemon=True).start()
        try:
            async with asyncio.timeout(min(MOST_CLOSE_S, max(LEAST_CLOSE_S, seconds))):
                await done.wait()
        except TimeoutError:
            # Ends the waiting for a collector that does not answer.
            self._exporter.shutdown()
            _log.warning("traces.not_sent", spans=self._waiting)
        with self._lock:
            left, self._waiting = self._waiting, 0
        self._dropped(left)

    def _give(self, span: ReadableSpan) -> None:
        with self._lock:
            room = self._waiting < QUEUE
            self._waiting += room
        if room and not self.closed:
            self._batches.on_end(span)
        else:
            self._dropped(1)

    def _left(self, result: str, spans: int) -> None:
        with self._lock:
            self._waiting = max(0, self._waiting - spans)
        self._count(result, spans)

    def _dropped(self, spans: int) -> None:
        if spans:
            self._count("dropped", spans)


def open_tracing(
    settings: Settings, about: Mapping[str, str], scrub: Scrub, count: Count
) -> tuple[Tracing | None, Instruments]:
    """The process's traces from now on, with what puts spans around clients; None where nothing would be kept.

    Args:
        about: the process, as OpenTelemetry's resource attributes.
        scrub: masks a value of any depth (`governance.privacy.scrub`).
        count: is told what became of spans.
    """
    provider = _provider() if settings.otlp_url or settings.traces_kept else None
    if provider is None:
        return None, Instruments(None)
    tracing = Tracing(settings, Resource(dict(about)), scrub, count)
    provider.use(tracing)
    return tracing, Instruments(provider)


class Provider(TracerProvider):
    """The process's one provider, which works for the `Tracing` that was opened last and is still open."""

    def __init__(self) -> None:
        self._current = _Current()
        super().__init__(_Sampler(self._current), Resource.get_empty(), shutdown_on_exit=False)
        self.add_span_processor(_Processor(self._current))

    def use(self, tracing: Tracing) -> None:
        self._current.opened.append(tracing)

    def get_tracer(self, instrumenting_module_name: str, *given: Any, **more: Any) -> trace.Tracer:
        """Ours writes down in outline what was not drawn; those of libraries record nothing of it."""
        made = super().get_tracer(instrumenting_module_name, *given, **more)
        if instrumenting_module_name != SCOPE:
            return made
        return OutlineTracer(made, self._current.draws, self._current.begun, self._current.ended)


class _Current:
    def __init__(self) -> None:
        self.opened: list[Tracing] = []

    def get(self) -> Tracing | None:
        while self.opened and self.opened[-1].closed:
            self.opened.pop()
        return self.opened[-1] if self.opened else None

    def draws(self, parent: trace.SpanContext, kind: trace.SpanKind) -> bool | None:
        tracing = self.get()
        return None if tracing is None else tracing.sampler.draws(parent, kind)

    def begun(self, span: Outline) -> None:
        tracing = self.get()
        if tracing is not None:
            tracing.tail.begun(span)

    def ended(self, span: Outline) -> None:
        tracing = self.get()
        if tracing is not None:
            tracing.tail.ended(span)


class _Sampler(Sampler):
    def __init__(self, current: _Current) -> None:
        self._current = current

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        tracing = self._current.get()
        return (tracing.sampler if tracing is not None else ALWAYS_OFF).should_sample(*args, **kwargs)

    def get_description(self) -> str:
        return "Trellis"


class _Processor(SpanProcessor):
    def __init__(self, current: _Current) -> None:
        self._current = current

    def on_end(self, span: ReadableSpan) -> None:
        tracing = self._current.get()
        if tracing is not None:
            tracing.tail.on_end(span)


def _provider() -> Provider | None:
    """Ours, set at the first call; None where the program that started us has set its own."""
    found = trace.get_tracer_provider()
    if isinstance(found, trace.ProxyTracerProvider):
        propagate.set_global_textmap(Propagator())
        found = Provider()
        trace.set_tracer_provider(found)
    if isinstance(found, Provider):
        return found
    _log.warning("traces.not_ours", provider=type(found).__name__)
    return None


def _exporter(settings: Settings) -> SpanExporter:
    if settings.otlp_url is None:
        return KeptTraces(settings.home, settings.traces_kept)
    # It brings an HTTP library of its own.
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(
        endpoint=f"{settings.otlp_url.rstrip('/')}/v1/traces",
        headers=parse_env_headers(revealed(settings.otlp_headers) or "", liberal=True),
        timeout=SEND_S,
        compression=Compression.Gzip,
    )
