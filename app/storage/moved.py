"""A database that was left for another one refuses writes; the app's answer to that is one clear sentence."""

from typing import Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from app.errors import Retryable

MOVED: Final = "trellis: moved"
"""The text that the triggers of a promotion refuse a write with, on both databases."""
MOVED_SQLSTATE: Final = "TR001"
AGAIN_S: Final = 10.0


class Moved(Retryable):
    """The data moves to another installation, or has moved there."""

    status, code, title = 503, "moved", "This installation takes no writes"

    def __init__(self) -> None:
        super().__init__(
            "The data of this installation is moving to another one, or has moved: nothing was stored here. "
            "Send it again in a few seconds, or to the new address.",
            retry_after=AGAIN_S,
        )


def tell_moved(engine: Engine) -> None:
    """Lets a refused write raise Moved, before anything takes it for a broken rule of a table."""
    event.listen(engine, "handle_error", _on_error)


def _on_error(context: ExceptionContext) -> Any:
    # Not the words within it: an error's text may quote a value that somebody sent.
    error = context.original_exception
    if getattr(error, "sqlstate", None) == MOVED_SQLSTATE or str(error) == MOVED:
        raise Moved from error
