"""The engine's log records, brought to structlog."""

import logging

import structlog

_ENGINE = "dbos"
# A failed job is logged by the runner, with its name; a cancelled one is no trouble at all.
_SAID_ELSEWHERE = (
    "Exception encountered in asynchronous workflow",
    "Asyncio task cancelled for workflow or step",
    "was cancelled during execution",
    "is not the latest version",
)


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        quiet = record.levelno <= logging.INFO or any(part in message for part in _SAID_ELSEWHERE)
        level = logging.DEBUG if quiet else record.levelno
        structlog.get_logger(_ENGINE).log(level, message, exc_info=record.exc_info if level >= logging.ERROR else None)


def route_engine_logs() -> None:
    """Takes the engine's records off the console and the root logger. Doing it again changes nothing."""
    logger = logging.getLogger(_ENGINE)
    if not any(isinstance(handler, _ToStructlog) for handler in logger.handlers):
        logger.addHandler(_ToStructlog())
    logger.propagate = False
    logger.setLevel(logging.WARNING)
