"""Every line is masked, whoever wrote it."""

import asyncio
import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from prometheus_client import CollectorRegistry

from app.governance.privacy import scrub
from app.telemetry.logs import configure_logs
from app.telemetry.metrics import LEVELS, Metrics
from app.telemetry.setup import log_counter

FULL_DEVICE = Path("/dev/full")
KEY = "trl_" + "Ab3_-" * 8


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    names = ("uvicorn", "uvicorn.error", "uvicorn.access", "dbos", "sqlalchemy", "alembic", "httpx", "httpcore")
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in (*names, "aiosqlite", "asyncio")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)
    logging.captureWarnings(False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def configured(*, as_json: bool = True, level: str = "INFO") -> io.StringIO:
    logging.getLogger().handlers.clear()  # the test runner's own raise where a record is broken
    stream = io.StringIO()
    configure_logs(as_json=as_json, level=level, scrub=scrub, stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_time_and_level() -> None:
    stream = configured()
    structlog.get_logger().info("lead decided", lead="lead_01k3", ms=12.5)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "lead decided", "lead": "lead_01k3", "ms": 12.5, "level": "info"}


@pytest.mark.parametrize("as_json", [True, False])
def test_personal_data_and_secrets_are_masked_in_every_field(as_json: bool) -> None:
    stream = configured(as_json=as_json)
    structlog.contextvars.bind_contextvars(caller="ada@example.org")
    structlog.get_logger().warning(
        "mail to ada@example.org", headers={"Authorization": KEY}, items=[("+49 171 1234567", KEY)], password="open"
    )
    text = stream.getvalue()
    for leaked in ("ada@", "1234567", "trl_Ab3", "open"):
        assert leaked not in text
    assert text.count("[email]") == 2


@pytest.mark.parametrize("as_json", [True, False])
def test_an_exception_is_masked_and_shows_no_local_variables(as_json: bool) -> None:
    stream = configured(as_json=as_json)
    message_of_the_lead = "please call my neighbour"
    try:
        raise ValueError(f"cannot parse ada@example.org, {len(message_of_the_lead)} characters")
    except ValueError:
        structlog.get_logger().exception("intake failed")
    text = stream.getvalue()
    assert "ValueError: cannot parse [email], 24 characters" in text
    assert "neighbour" not in text


@pytest.mark.parametrize("name", ["uvicorn.error", "sqlalchemy.pool", "dbos", "some.client"])
def test_the_standard_library_ends_in_the_same_pipeline_once(name: str) -> None:
    logger = logging.getLogger(name)
    aside = io.StringIO()
    if name == "dbos":
        logger.addHandler(logging.StreamHandler(aside))
    stream = configured()
    configured_again = configured()
    logger.error("refused %s for %s", KEY, "ada@example.org")
    assert stream.getvalue() == aside.getvalue() == ""
    (line,) = lines(configured_again)
    assert line["event"] == "refused trl_[secret] for [email]"
    assert (line["level"], line["logger"]) == ("error", name)


def test_a_standard_library_exception_keeps_its_traceback() -> None:
    stream = configured()
    try:
        raise KeyError("gone")
    except KeyError:
        logging.getLogger("some.client").exception("lost")
    assert "KeyError: 'gone'" in lines(stream)[0]["exception"]


def test_unusual_levels_and_broken_arguments_do_not_fail_the_caller() -> None:
    stream = configured(level="DEBUG")
    logging.getLogger("some.client").log(25, "notice")
    logging.getLogger("some.client").log(60, "worst")
    logging.getLogger("some.client").error("%d", "no number")
    assert [line["level"] for line in lines(stream)] == ["info", "critical", "error"]


def test_a_stream_that_is_gone_fails_no_caller_and_leaks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    configured().close()
    logging.getLogger("some.client").error("mail to ada@example.org")
    assert capsys.readouterr().err == "a line of the logger some.client could not be written\n"


@pytest.mark.skipif(not FULL_DEVICE.exists(), reason="has no device that is always full")
def test_a_disk_that_is_full_fails_no_caller() -> None:
    full = FULL_DEVICE.open("w")
    try:
        configure_logs(as_json=True, level="INFO", scrub=scrub, stream=full)
        structlog.get_logger().error("the line is lost, the caller is not")
        logging.getLogger("dbos").error("nor this one's")
    finally:
        with contextlib.suppress(OSError):
            full.close()


def test_levels_hold_for_both_and_access_logs_and_statements_stay_out() -> None:
    stream = configured(level="DEBUG")
    structlog.get_logger().debug("ours")
    logging.getLogger("some.client").debug("theirs")
    logging.getLogger("uvicorn.access").info("GET /")
    logging.getLogger("sqlalchemy.engine").info("INSERT ...")
    assert [line["event"] for line in lines(stream)] == ["ours", "theirs"]
    stream = configured(level="ERROR")
    structlog.get_logger().info("ours")
    logging.getLogger("sqlalchemy.engine").warning("theirs")
    assert stream.getvalue() == ""


def test_warnings_become_lines() -> None:
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old call by ada@example.org", stacklevel=1)
    assert "old call by [email]" in lines(stream)[0]["event"]


@pytest.mark.parametrize("value", [10**30, "broken \ud800", float("nan"), {1: 2}, {"x"}, object])
def test_any_value_can_be_logged(value: Any) -> None:
    stream = configured()
    structlog.get_logger().info("odd", value=value)
    assert lines(stream)[0]["event"] == "odd"


def test_a_line_names_the_trace_it_belongs_to() -> None:
    from opentelemetry import trace

    stream = configured()
    context = trace.SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(context)):
        structlog.get_logger().info("inside")
    structlog.get_logger().info("outside")
    inside, outside = lines(stream)
    assert (inside["trace_id"], inside["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert "trace_id" not in outside


def test_every_line_that_is_written_is_counted_by_its_level_and_no_other() -> None:
    registry = CollectorRegistry()
    logging.getLogger().handlers.clear()
    counted = log_counter(Metrics(registry))
    configure_logs(as_json=True, level="INFO", scrub=scrub, stream=io.StringIO(), counted=counted)
    log = structlog.get_logger()
    log.debug("not written")
    log.info("one")
    log.exception("two")
    logging.getLogger("somebody.else").log(47, "a level of their own")
    values = {level: registry.get_sample_value("trellis_log_events_total", {"level": level}) for level in LEVELS}
    assert values == {"debug": 0, "info": 1, "warning": 0, "error": 2, "critical": 0}


async def test_a_task_that_outlives_its_request_logs_the_requests_trace() -> None:
    stream = configured()
    span = NonRecordingSpan(SpanContext(0xA1, 0xB2, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)))

    async def beside() -> None:
        structlog.get_logger().info("beside")

    with trace.use_span(span):
        task = asyncio.create_task(beside())
    await task
    (line,) = lines(stream)
    assert (line["trace_id"], line["span_id"]) == (f"{0xA1:032x}", f"{0xB2:016x}")
