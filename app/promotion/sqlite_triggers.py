"""What a promotion adds to a SQLite file: the change log, the gate that refuses writes, and its state."""

from collections.abc import Iterator, Sequence
from typing import Final

from app.promotion.side import FINISHED
from app.promotion.tables import MovedTable
from app.storage.moved import MOVED

_NOW: Final = "(julianday('now') - 2440587.5) * 86400.0"
_SHUT: Final = f"(SELECT closed AND NOT ours AND (until IS NULL OR until > {_NOW}) FROM promotion_gate)"  # noqa: S608 - constants
_LOGGED: Final = "(SELECT NOT ours FROM promotion_gate)"
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS promotion_state (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS promotion_changes "
    "(seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, key TEXT NOT NULL)",
    # `until`: seconds since 1970; none: for good. `ours`: set by the promotion within its own transactions only.
    "CREATE TABLE IF NOT EXISTS promotion_gate "
    "(id INTEGER PRIMARY KEY CHECK (id = 1), closed INTEGER NOT NULL, until REAL, ours INTEGER NOT NULL)",
)
_EVENTS: Final = ("INSERT", "UPDATE", "DELETE")


def install(tables: Sequence[MovedTable], *, closed: bool) -> Iterator[str]:
    """Statements of one transaction. What is there stays as it is."""
    yield from _TABLES
    yield f"INSERT OR IGNORE INTO promotion_gate VALUES (1, {int(closed)}, NULL, 0)"  # noqa: S608
    for table in tables:
        for event in _EVENTS:
            yield _shut(table, event)
            yield _logged(table, event)


def _shut(table: MovedTable, event: str) -> str:
    return (
        f"CREATE TRIGGER IF NOT EXISTS promotion_shut_{table.name}_{event.lower()} BEFORE {event} ON {table.name} "
        f"WHEN {_SHUT} BEGIN SELECT RAISE(ABORT, '{MOVED}'); END"
    )


def _logged(table: MovedTable, event: str) -> str:
    notes = [_note(table, "OLD" if event == "DELETE" else "NEW")]
    if event == "UPDATE":
        changed = " OR ".join(f'OLD."{column}" IS NOT NEW."{column}"' for column in table.key)
        notes.append(f"{_note(table, 'OLD')} WHERE {changed}")
    return (
        f"CREATE TRIGGER IF NOT EXISTS promotion_log_{table.name}_{event.lower()} AFTER {event} ON {table.name} "
        f"WHEN {_LOGGED} BEGIN {' '.join(f'{note};' for note in notes)} END"
    )


def _note(table: MovedTable, row: str) -> str:
    key = ", ".join(f'{row}."{column}"' for column in table.key)
    return f"INSERT INTO promotion_changes (name, key) SELECT '{table.name}', json_array({key})"


def retire(tables: Sequence[MovedTable]) -> Iterator[str]:
    """The log goes, the gate stays."""
    yield from _silent(tables)
    yield f"INSERT OR REPLACE INTO promotion_state VALUES ('{FINISHED}', 'true')"  # noqa: S608


def _silent(tables: Sequence[MovedTable]) -> Iterator[str]:
    for table in tables:
        for event in _EVENTS:
            yield f"DROP TRIGGER IF EXISTS promotion_log_{table.name}_{event.lower()}"
    yield "DELETE FROM promotion_changes"


def uninstall(tables: Sequence[MovedTable]) -> Iterator[str]:
    yield from _silent(tables)
    for table in tables:
        for event in _EVENTS:
            yield f"DROP TRIGGER IF EXISTS promotion_shut_{table.name}_{event.lower()}"
    for name in ("promotion_state", "promotion_changes", "promotion_gate"):
        yield f"DROP TABLE IF EXISTS {name}"
