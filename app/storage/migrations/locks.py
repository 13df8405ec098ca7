"""What a revision's statements keep others from, on PostgreSQL: for a person who reads the plan of a migration.

After "Explicit Locking" and the pages of the commands in PostgreSQL's manual. Tables that the revision itself makes
are left out: nobody else sees them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TABLE = r"(?:IF (?:NOT )?EXISTS )?(?:ONLY )?(?P<table>[\w.\"]+)"


@dataclass(frozen=True, slots=True)
class Lock:
    """`mode` as PostgreSQL names it; `keeps`: what waits while it is held."""

    table: str
    mode: str
    keeps: str


_ALL = ("ACCESS EXCLUSIVE", "reads and writes")
_WRITES = ("SHARE", "writes")
_KEYS = ("SHARE ROW EXCLUSIVE", "writes")
_NONE = ("SHARE UPDATE EXCLUSIVE", "neither reads nor writes")
_ROWS = ("ROW EXCLUSIVE", "writes to the same rows")
# The first that fits says it.
_RULES: tuple[tuple[re.Pattern[str], tuple[str, str]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), lock)
    for pattern, lock in (
        (rf"^CREATE (?:UNIQUE )?INDEX CONCURRENTLY .*? ON {_TABLE}", _NONE),
        (r"^DROP INDEX CONCURRENTLY (?:IF EXISTS )?(?P<table>\S+)", _NONE),
        (rf"^CREATE (?:UNIQUE )?INDEX .*? ON {_TABLE}", _WRITES),
        (r"^DROP INDEX (?:IF EXISTS )?(?P<table>\S+)", _ALL),
        (rf"^ALTER TABLE {_TABLE} VALIDATE CONSTRAINT", _NONE),
        (rf"^ALTER TABLE {_TABLE} ADD CONSTRAINT \S+ FOREIGN KEY", _KEYS),
        (rf"^(?:ALTER|DROP) TABLE {_TABLE}", _ALL),
        (rf"^(?:CREATE|DROP) POLICY (?:IF EXISTS )?\S+ ON {_TABLE}", _ALL),
        (rf"^(?:INSERT INTO|DELETE FROM|UPDATE) {_TABLE}", _ROWS),
    )
)
_MADE = re.compile(rf"^CREATE TABLE {_TABLE}", re.IGNORECASE)
_REFERS = re.compile(r"\bREFERENCES (?P<table>[\w.\"]+)", re.IGNORECASE)
_OURS = frozenset({"alembic_version", "schema_programs"})


def locks(sql: str) -> list[Lock]:
    """The locks of a revision's statements on what was there before it, in the order in which they are asked for."""
    made, found = set(_OURS), dict[Lock, None]()
    for statement in _statements(sql):
        if new := _MADE.match(statement):
            made.add(new["table"])
        for lock in _of(statement):
            if lock.table not in made:
                found[lock] = None
    return list(found)


def _of(statement: str) -> Iterator[Lock]:
    for pattern, lock in _RULES:
        if named := pattern.match(statement):
            yield Lock(named["table"], *lock)
            break
    for named in _REFERS.finditer(statement):
        yield Lock(named["table"], *_KEYS)


def _statements(sql: str) -> Iterator[str]:
    lines = (line for line in sql.splitlines() if not line.startswith("--"))
    for statement in "\n".join(lines).split(";\n"):
        if flat := " ".join(statement.split()):
            yield flat
