"""The last traces, kept in the data folder where there is no collector: a small SQLite file of its own.

Processes that share the folder share the file. It is written by the exporter's thread and read by `trellis trace`.
"""

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

from app.errors import ConfigError
from app.telemetry import names

FILE: Final = "traces.db"
MAX_SPANS: Final = 1_000
"""Of one trace; what comes after is left out."""
LAYOUT: Final = 1
_BUSY_S: Final = 5.0
_TRACE: Final = re.compile(r"[0-9a-f]{8,32}")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS traces (trace TEXT PRIMARY KEY, at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS traces_at ON traces (at);
CREATE TABLE IF NOT EXISTS spans (
    trace TEXT NOT NULL REFERENCES traces ON DELETE CASCADE, span TEXT NOT NULL, parent TEXT, name TEXT NOT NULL,
    kind TEXT NOT NULL, service TEXT NOT NULL, start INTEGER NOT NULL, "end" INTEGER NOT NULL, failed INTEGER NOT NULL,
    attributes BLOB NOT NULL, PRIMARY KEY (trace, span)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ids (
    id TEXT NOT NULL, trace TEXT NOT NULL REFERENCES traces ON DELETE CASCADE, PRIMARY KEY (id, trace)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ids_of ON ids (trace);
"""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeptSpan:
    """One span. Times in nanoseconds since 1970."""

    trace: str
    span: str
    parent: str | None
    name: str
    kind: str
    service: str
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeptTrace:
    """What a trace's first span says of it, and how much there is of it. Times in nanoseconds since 1970."""

    trace: str
    name: str
    service: str
    start: int
    end: int
    spans: int
    failed: bool


class KeptTraces(SpanExporter):
    """Writes spans, and keeps those of the last `most` traces.

    A file that cannot be written costs spans and no work: the batch counts as failed, and one warning is logged.
    """

    def __init__(self, home: Path, most: int) -> None:
        self._path = home / FILE
        self._most = most
        self._warned = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            with _opened(self._path, create=True) as connection, connection:
                self._write(connection, [_kept(span) for span in spans])
        except (OSError, sqlite3.Error) as error:
            if not self._warned:
                self._warned = True
                _log.warning("traces cannot be kept", file=str(self._path), error=str(error))
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing stays open between two batches."""

    def _write(self, connection: sqlite3.Connection, spans: Sequence[KeptSpan]) -> None:
        connection.executemany(
            "INSERT INTO traces VALUES (?, ?) ON CONFLICT (trace) DO UPDATE SET at = max(at, excluded.at)",
            [(span.trace, span.end) for span in spans],
        )
        connection.executemany(
            "INSERT OR IGNORE INTO spans SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
            " WHERE (SELECT count(*) FROM spans WHERE trace = ?1) < ?11",
            [(*_row(span), MAX_SPANS) for span in spans],
        )
        connection.executemany(
            "INSERT OR IGNORE INTO ids VALUES (?, ?)",
            [
                (str(span.attributes[name]), span.trace)
                for span in spans
                for name in names.IDS
                if name in span.attributes
            ],
        )
        connection.execute(
            "DELETE FROM traces WHERE trace NOT IN (SELECT trace FROM traces ORDER BY at DESC, trace LIMIT ?)",
            (self._most,),
        )


class TraceReader:
    """Reads what processes on this folder have kept. Raises ConfigError for a file that is damaged."""

    def __init__(self, home: Path) -> None:
        self._path = home / FILE

    def find(self, wanted: str) -> list[str]:
        """Ids of the traces that an id leads to, the latest first: a trace's, or that of a request, a decision or a
        job. Of a trace's id its first eight characters will do."""
        with self._reading() as connection:
            if connection is None:
                return []
            trace = wanted.lower() if _TRACE.fullmatch(wanted.lower()) else None
            rows = connection.execute(
                "SELECT trace FROM traces WHERE (trace >= ?1 AND trace < ?1 || 'g')"
                " OR trace IN (SELECT trace FROM ids WHERE id = ?2) ORDER BY at DESC",
                (trace, wanted),
            )
            return [trace for (trace,) in rows]

    def spans(self, trace: str) -> list[KeptSpan]:
        """In the order in which they began."""
        with self._reading() as connection:
            if connection is None:
                return []
            rows = connection.execute("SELECT * FROM spans WHERE trace = ? ORDER BY start, span", (trace,))
            return [_span(row) for row in rows]

    def last(self, limit: int) -> list[KeptTrace]:
        """The latest first."""
        with self._reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(
                'SELECT t.trace, first.name, first.service, min(s.start), max(s."end"), count(*), max(s.failed)'
                " FROM (SELECT trace, at FROM traces ORDER BY at DESC LIMIT ?) t JOIN spans s ON s.trace = t.trace"
                " JOIN spans first ON first.trace = t.trace AND first.span ="
                " (SELECT span FROM spans WHERE trace = t.trace ORDER BY start, span LIMIT 1)"
                " GROUP BY t.trace ORDER BY t.at DESC",
                (limit,),
            )
            return [_trace(*row) for row in rows]

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        if not self._path.exists():
            yield None
            return
        try:
            with _opened(self._path, create=False) as connection:
                yield connection
        except sqlite3.Error as error:
            raise ConfigError(f"The traces in {self._path} cannot be read ({error}): delete the file.") from error


@contextmanager
def _opened(path: Path, *, create: bool) -> Iterator[sqlite3.Connection]:
    if create and not path.exists():
        # Only its owner may read it, from its first moment on; SQLite gives its side files the same mode.
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    with closing(sqlite3.connect(path, timeout=_BUSY_S)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        if create and connection.execute("PRAGMA user_version").fetchone()[0] != LAYOUT:
            connection.execute("PRAGMA auto_vacuum = FULL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {LAYOUT}")
        connection.execute("PRAGMA synchronous = OFF")
        yield connection


def _kept(span: ReadableSpan) -> KeptSpan:
    context = span.context
    assert context is not None
    return KeptSpan(
        trace=format_trace_id(context.trace_id),
        span=format_span_id(context.span_id),
        parent=format_span_id(span.parent.span_id) if span.parent is not None else None,
        name=span.name,
        kind=span.kind.name.lower(),
        service=str(span.resource.attributes.get(names.SERVICE, "")),
        start=span.start_time or 0,
        end=span.end_time or 0,
        failed=span.status.status_code is StatusCode.ERROR,
        attributes=dict(span.attributes or {}),
    )


def _span(row: Sequence[Any]) -> KeptSpan:
    trace, span, parent, name, kind, service, start, end, failed, attributes = row
    return KeptSpan(trace, span, parent, name, kind, service, start, end, bool(failed), orjson.loads(attributes))


def _trace(trace: str, name: str, service: str, start: int, end: int, spans: int, failed: int) -> KeptTrace:
    return KeptTrace(trace, name, service, start, end, spans, bool(failed))


def _row(span: KeptSpan) -> tuple[Any, ...]:
    return (
        span.trace,
        span.span,
        span.parent,
        span.name,
        span.kind,
        span.service,
        span.start,
        span.end,
        span.failed,
        orjson.dumps(span.attributes),
    )
