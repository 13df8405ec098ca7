"""What of an error that nobody handled is told to Sentry, over its real client and a real socket."""

import gzip
import io
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

from app.errors import NotFound, Unavailable
from app.governance.privacy import scrub
from app.settings import load_settings
from app.telemetry.errors import NoReporter, SentryReporter, open_reporter
from app.telemetry.logs import configure_logs


class Sentry:
    """Takes envelopes as Sentry does."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                told.raw.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def dsn(self) -> str:
        return f"http://public@127.0.0.1:{self.server.server_port}/1"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body.splitlines()[2]) for body in self.raw]


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    found = Sentry()
    threading.Thread(target=found.server.serve_forever, daemon=True).start()
    yield found
    found.server.shutdown()
    found.server.server_close()


def reporter(dsn: str) -> SentryReporter:
    opened = open_reporter(load_settings({}, sentry_dsn=dsn, phase="small"), "1.2.3", "trellis-api", scrub)
    assert isinstance(opened, SentryReporter)
    return opened


def failure(name: str, card: str) -> Exception:
    try:
        raise ValueError(f"cannot read {card}") from KeyError(name)
    except ValueError as error:
        return error


async def test_an_error_is_told_with_its_trace_and_nothing_of_anybody(sentry: Sentry) -> None:
    told = reporter(sentry.dsn)
    span = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False))
    with trace.use_span(span):
        told.report(failure("ada@example.org", "4111 1111 1111 1111"), "/v1/leads")
    await told.close(2)
    (event,) = sentry.events
    assert [error["type"] for error in event["exception"]["values"]] == ["KeyError", "ValueError"]
    assert event["exception"]["values"][-1]["value"] == "cannot read [card]"
    assert event["contexts"]["trace"]["trace_id"] == f"{0xABC:032x}"
    assert event["tags"] == {"service": "trellis-api", "phase": "small", "region": "none", "where": "/v1/leads"}
    (frame,) = event["exception"]["values"][-1]["stacktrace"]["frames"]
    assert frame["function"] == "failure"
    assert frame.keys() <= {"filename", "module", "function", "lineno", "in_app"}
    assert event.keys().isdisjoint({"request", "user", "server_name", "modules", "breadcrumbs", "extra"})
    whole = b"".join(sentry.raw)
    for planted in (b"4111", b"ada@", b"cannot read 4", str(__file__).encode()):
        assert planted not in whole, planted


async def test_what_a_caller_did_wrong_is_no_error_of_ours(sentry: Sentry) -> None:
    told = reporter(sentry.dsn)
    told.report(NotFound("There is no such lead."), "/v1/leads")
    told.report(Unavailable("The index is away.", retry_after=1), "job")
    await told.close(2)
    assert [event["exception"]["values"][0]["type"] for event in sentry.events] == ["Unavailable"]


async def test_sentry_that_is_away_disturbs_nobody() -> None:
    told = reporter("http://public@127.0.0.1:9/1")
    told.report(failure("a", "b"), "/v1/leads")
    await told.close(0.2)


def test_without_a_dsn_nobody_is_told() -> None:
    assert isinstance(open_reporter(load_settings({}), "1", "trellis-api", scrub), NoReporter)


async def test_a_line_of_an_error_is_told_and_no_other_line_is(sentry: Sentry) -> None:
    told, log = reporter(sentry.dsn), structlog.get_logger("test")
    before = structlog.get_config()
    try:
        configure_logs(as_json=True, level="INFO", scrub=scrub, stream=io.StringIO(), reported=told.report)
        try:
            raise ValueError("planted")
        except ValueError:
            log.warning("foreseen", exc_info=True)
            log.exception("unforeseen error")
        log.error("without a cause")
        log.error("a stated one", exc_info=NotFound("There is no such lead."))
        logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=failure("a", "b"))
    finally:
        structlog.configure(**before)
    await told.close(2)
    where = sorted(event["tags"]["where"] for event in sentry.events)
    assert where == ["asyncio", "unforeseen error"]
