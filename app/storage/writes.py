"""What a session did to the database: whether it wrote, and how far the log was after its commit."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, SelectBase, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session, SessionTransaction

from app.storage.postgres import AWAY, tell_position

_WRITTEN = "trellis.written"


@dataclass(slots=True)
class Written:
    """Of one session, in its `info`. `position` is None where it was not told."""

    connection: Connection | None = None
    wrote: bool = False
    position: int | None = None


def written(session: Any) -> Written:
    """Of this session (also an AsyncSession)."""
    found: Written = session.info.setdefault(_WRITTEN, Written())
    return found


def watch(engine: AsyncEngine, sessions: type[Session]) -> None:
    """From now on `written` tells it of sessions of this class on this engine."""
    event.listen(engine.sync_engine, "before_cursor_execute", _see_statement)
    event.listen(sessions, "after_begin", _see_begin)
    event.listen(sessions, "after_commit", _see_commit)


def _see_begin(session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    written(session).connection = connection
    connection.info[_WRITTEN] = written(session)


def _see_statement(
    connection: Connection, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool
) -> None:
    # Text may be anything; a SELECT that the program put together calls nothing that writes.
    session: Written | None = connection.info.get(_WRITTEN)
    if session is not None and not isinstance(getattr(context.compiled, "statement", None), SelectBase):
        session.wrote = True


def _see_commit(session: Session) -> None:
    # Before the connection goes back: no other one has to be waited for.
    seen = written(session)
    if seen.connection is None or seen.connection.in_transaction() or not seen.wrote:
        return
    driver: Any = seen.connection.connection.dbapi_connection
    # The commit stands. Whoever tells of it asks again.
    with suppress(*AWAY):
        seen.position = driver.run_async(tell_position)
