"""The engine's records go to structlog, at the level that an operator should see them at."""

import logging

import pytest
from structlog.testing import capture_logs

from app.jobs.logs import route_engine_logs


@pytest.fixture
def engine() -> logging.Logger:
    route_engine_logs()
    return logging.getLogger("dbos")


def test_warnings_and_errors_keep_their_level(engine: logging.Logger) -> None:
    with capture_logs() as entries:
        engine.warning("Database connection failed: %s", "locked")
        engine.error("Notification listener error")
    assert [(entry["log_level"], entry["event"]) for entry in entries] == [
        ("warning", "Database connection failed: locked"),
        ("error", "Notification listener error"),
    ]


@pytest.mark.parametrize(
    "message",
    [
        "Exception encountered in asynchronous workflow:",
        "Workflow w1 was cancelled during execution. Waiting for the recorded outcome",
        "Asyncio task cancelled for workflow or step <function>",
    ],
)
def test_what_the_runner_says_itself_is_for_debugging_only(engine: logging.Logger, message: str) -> None:
    with capture_logs() as entries:
        engine.error(message, exc_info=ValueError("secret"))
    assert [(entry["log_level"], entry["exc_info"]) for entry in entries] == [("debug", None)]


def test_small_talk_is_dropped_and_nothing_reaches_the_console(
    engine: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    with capture_logs() as entries:
        engine.info("DBOS launched! To view and manage workflows, connect to DBOS Conductor at: https://...")
    assert entries == []
    assert not engine.propagate
    assert capsys.readouterr() == ("", "")


def test_routing_twice_tells_everything_once(engine: logging.Logger) -> None:
    route_engine_logs()
    with capture_logs() as entries:
        engine.warning("once")
    assert len(entries) == 1
