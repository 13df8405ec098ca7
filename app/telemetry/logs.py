"""Structured logs: one line an event, JSON in production, readable in development, masked in both.

The standard library's loggers (uvicorn, SQLAlchemy, the jobs engine, the clients) end in the same pipeline.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO, cast

import orjson
import structlog
from opentelemetry import trace
from structlog.typing import Processor

Scrub = Callable[[Any], Any]
Counted = Callable[[str], None]
"""Hears the level of each line that is written."""
Reported = Callable[[Exception, str], None]
"""Hears of an error that nobody foresaw, and where it came up."""

# Libraries that bring handlers of their own, which would print a line twice and past the mask.
_WITH_HANDLERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "dbos", "sqlalchemy", "alembic")
# Below these levels they repeat our own lines (access logs) or write statements with their parameters.
_AT_LEAST = {
    "uvicorn.access": logging.WARNING,
    "alembic": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "aiosqlite": logging.WARNING,
    "asyncio": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx2": logging.WARNING,
    "mcp": logging.WARNING,
    # Tracebacks that quote what a server sent; our own lines say what happened.
    "mcp.client": logging.CRITICAL,
}


def configure_logs(
    *,
    as_json: bool,
    level: str,
    scrub: Scrub,
    stream: TextIO | None = None,
    counted: Counted = lambda _level: None,
    reported: Reported = lambda _error, _where: None,
) -> None:
    """Sets the process's logging; may be called again.

    Args:
        as_json: one JSON object a line, for a log store; else text for a person.
        level: DEBUG, INFO, WARNING or ERROR.
        scrub: masks personal data and secrets in a value of any depth (`governance.privacy.scrub`).
        stream: where to; standard error where none is given, so that a command's own output stays clean.
        counted: hears the level of each line.
        reported: is told of each error that a line of level error or above carries, and where it came up.
    """
    out = stream or sys.stderr
    structlog.configure(
        processors=[*_processors(scrub, counted, reported), _render_json if as_json else _console(out)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Unfailing(out))),
        cache_logger_on_first_use=as_json,
    )
    _route_standard_library(level)


class _Unfailing:
    """A stream that drops what it cannot write: work is not to fail because its log is on a disk that is full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def _processors(scrub: Scrub, counted: Counted, reported: Reported) -> list[Processor]:
    def masked(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        fields: MutableMapping[str, Any] = scrub(event)
        return fields

    def count(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        counted(event["level"])
        return event

    return [
        structlog.contextvars.merge_contextvars,
        _telling(reported),
        # Text, without the frames' local variables: those hold what people wrote.
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        masked,
        _add_trace,
        structlog.processors.add_log_level,
        count,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _telling(reported: Reported) -> Processor:
    def tell(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if method in ("error", "critical") and event.get("exc_info"):
            given = event["exc_info"]
            error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
            if isinstance(error, Exception):
                reported(error, str(event.get("job") or event.get("logger") or event.get("event")))
        return event

    return tell


def _add_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = trace.format_trace_id(span.trace_id)
        event["span_id"] = trace.format_span_id(span.span_id)
    return event


def _render_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    try:
        return orjson.dumps(event).decode()
    except TypeError:
        # Broken surrogates, integers past 64 bits: a log line must not fail the work that it tells of.
        return json.dumps(event, default=str)


def _console(out: TextIO) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
    )


class _Forward(logging.Handler):
    """Hands a standard library record to the pipeline."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
            structlog.get_logger().log(level, _message(record), logger=record.name, exc_info=record.exc_info)
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """The inherited one prints the record, unmasked."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"a line of the logger {record.name} could not be written\n")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        return f"{record.msg} (the arguments do not fit)"


def _route_standard_library(level: str) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Forward)]:
        root.removeHandler(handler)
    root.addHandler(_Forward())
    root.setLevel(level)
    logging.captureWarnings(True)
    for name in _WITH_HANDLERS:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name, least in _AT_LEAST.items():
        logging.getLogger(name).setLevel(max(least, logging.getLevelName(level)))
