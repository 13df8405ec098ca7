"""How long a revision's statement may wait and run on PostgreSQL."""

LOCK_S = 0.1
"""Whoever asks for a table after us waits behind us. Shorter than the server's `deadlock_timeout` (1 s): where a
revision and a request block each other, it is the revision that gives way."""
STATEMENT_S = 60.0
BUILD_LOCK_S = 120.0


def at_once() -> list[str]:
    """For statements that others wait behind."""
    return [_set("lock_timeout", LOCK_S), _set("statement_timeout", STATEMENT_S)]


def patiently() -> list[str]:
    """For what blocks nobody and takes its time: concurrent builds, checks of stored rows."""
    return [_set("lock_timeout", BUILD_LOCK_S), _set("statement_timeout", 0)]


def _set(name: str, seconds: float) -> str:
    return f"SET {name} = '{round(seconds * 1000)}ms'"
