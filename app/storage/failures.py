"""Which errors of the database say that it is away or full, and what a caller is told then."""

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import Retryable, Unavailable

AGAIN_S = 2.0
FULL_AGAIN_S = 30.0
NOT_ALLOWED = "42501"
"""PostgreSQL's insufficient_privilege."""
_FULL = frozenset({"SQLITE_FULL", "53100"})
# PostgreSQL, "Appendix A. Error Codes": connections, resources, shutdown and start, a standby that was the primary,
# conflicts that a repeat resolves.
_PASSING = ("08", "53", "57P", "25006", "40001", "40P01")
_AWAY = ("08", "53", "57P", "25006", "SQLITE_FULL", "SQLITE_BUSY", "SQLITE_IOERR", "SQLITE_CANTOPEN")
# A statement that took too long, a lock.
_SLOW = {
    "57014": "The database took too long over this: try again, or ask for less.",
    "55P03": "Somebody else is changing the same at the moment: try again.",
}

# A statement that was prepared before a column's type changed under it; the driver then prepares all anew.
_CHANGED = "InvalidCachedStatementError"


class StorageFull(Retryable):
    status, code, title = 507, "storage-full", "There is no room left to store this"


def failure(error: BaseException) -> Retryable | None:
    """What the caller is told where the database and not the request is at fault; None for any other error."""
    if isinstance(error, PoolTimeout):
        return _away()
    if not isinstance(error, DBAPIError):
        return None
    code = sqlstate(error)
    if code in _FULL:
        return StorageFull(
            "The database has no room left, so nothing was stored: free or add space, then send it again.",
            retry_after=FULL_AGAIN_S,
        )
    if type(error.orig).__name__ == _CHANGED:
        return Unavailable("The database's schema has just changed: send it again.", retry_after=AGAIN_S)
    if code in _SLOW:
        return Unavailable(_SLOW[code], retry_after=AGAIN_S)
    lost = error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    return _away() if lost or code.startswith(_PASSING) else None


def is_away(error: BaseException) -> bool:
    """Whether the database cannot be reached or has no room: that says nothing of the work, which may be done later."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or sqlstate(error).startswith(_AWAY)


def _away() -> Unavailable:
    return Unavailable("The database does not answer at the moment: try again.", retry_after=AGAIN_S)


def first_line(error: BaseException | None) -> str:
    """What an error says, short enough for a sentence; its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def sqlstate(error: DBAPIError) -> str:
    """PostgreSQL's SQLSTATE, or the name of SQLite's code; empty where the driver gives neither."""
    return str(getattr(error.orig, "sqlstate", None) or getattr(error.orig, "sqlite_errorname", None) or "")
