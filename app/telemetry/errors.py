"""Errors that nobody handled, told to Sentry where a DSN is set."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from opentelemetry import trace

from app.errors import TrellisError
from app.settings import Settings, revealed
from app.telemetry.masking import Scrub

# What of an event says where and what went wrong. Nothing of who asked for what, nor of this machine, is among it.
_TOLD = frozenset(
    {"event_id", "timestamp", "level", "platform", "exception", "tags", "contexts", "release", "environment", "sdk"}
)
_CONTEXTS = frozenset({"trace", "runtime"})
_FRAME = frozenset({"filename", "module", "function", "lineno", "in_app"})


class Reporter(Protocol):
    """Is told of an error that nobody foresaw. Never raises, never waits."""

    def report(self, error: BaseException, where: str) -> None: ...


class NoReporter:
    """Errors are in the log alone."""

    def report(self, error: BaseException, where: str) -> None:
        """Tells nobody."""


class SentryReporter:
    """A client of its own, which hooks into nothing: it sends what it is given, by a thread.

    Sent are the error's class, its words (masked), the stack without local variables or lines of code, the trace's id
    and `where` it came up (a route, a job). Not sent: request, headers, body, user, host.
    """

    def __init__(self, dsn: str, *, release: str, environment: str, tags: dict[str, str], scrub: Scrub) -> None:
        import sentry_sdk
        from sentry_sdk.utils import event_from_exception

        self._from: Callable[..., Any] = event_from_exception
        self._tags = tags
        self._scrub = scrub
        self._client = sentry_sdk.Client(
            dsn=dsn,
            release=release,
            environment=environment,
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            include_source_context=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            server_name="",
            send_client_reports=False,
            auto_session_tracking=False,
            shutdown_timeout=1,
            before_send=self._bare,
        )

    def report(self, error: BaseException, where: str) -> None:
        if isinstance(error, TrellisError) and error.status < 500:
            return
        event, hint = self._from(error, client_options=self._client.options, mechanism={"type": "trellis"})
        event["tags"] = {**self._tags, "where": where}
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            event["contexts"] = {
                "trace": {
                    "trace_id": trace.format_trace_id(span.trace_id),
                    "span_id": trace.format_span_id(span.span_id),
                }
            }
        self._client.capture_event(event, hint)

    async def close(self, seconds: float) -> None:
        """Sends what waits, in at most `seconds`."""
        await asyncio.to_thread(self._client.close, timeout=seconds)

    def _bare(self, event: Any, _hint: Any) -> Any:
        kept = {name: value for name, value in event.items() if name in _TOLD}
        if "contexts" in kept:
            kept["contexts"] = {name: told for name, told in kept["contexts"].items() if name in _CONTEXTS}
        for error in kept.get("exception", {}).get("values", ()):
            error["value"] = self._scrub(error.get("value") or "")
            for frame in (error.get("stacktrace") or {}).get("frames", ()):
                for name in frame.keys() - _FRAME:
                    del frame[name]
        return kept


def open_reporter(settings: Settings, release: str, service: str, scrub: Scrub) -> Reporter:
    dsn = revealed(settings.sentry_dsn)
    if dsn is None:
        return NoReporter()
    tags = {"service": service, "phase": settings.phase.value, "region": settings.region or "none"}
    return SentryReporter(dsn, release=release, environment=settings.environment.value, tags=tags, scrub=scrub)
