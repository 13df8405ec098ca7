"""A row in every table of whatever schema a database has, without knowing its models."""

import re
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import JSON, Column, Connection, Date, DateTime, LargeBinary, MetaData, String, Table, insert, select
from sqlalchemy import Boolean as Flag
from sqlalchemy import inspect as look_at

from app.storage.programs import PROGRAMS

LATER = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
# The migrator's own.
APART = frozenset({"alembic_version", PROGRAMS.name})
Rows = dict[str, list[dict[str, Any]]]


def fill(connection: Connection, mark: str) -> None:
    """Adds a row to every table, parents first; `mark` (up to 8 letters) makes it another one than the last."""
    chosen = _choices(connection)
    for table in _tables(connection):
        connection.execute(insert(table).values(_row(table, chosen.get(table.name, {}), mark)))


def rows(connection: Connection) -> Rows:
    """All rows by table, each as its columns, in the order of their text."""
    return {
        table.name: sorted((dict(row._mapping) for row in connection.execute(select(table))), key=str)
        for table in _tables(connection)
    }


def changed(before: Rows, after: Rows) -> list[str]:
    """The tables on both sides whose rows differ in the columns that both have."""
    return [
        name for name in before.keys() & after.keys() if _shared(before, after, name) != _shared(after, before, name)
    ]


def _shared(rows: Rows, others: Rows, name: str) -> list[dict[str, Any]]:
    columns = set(others[name][0]) if others[name] else set()
    return sorted(({key: value for key, value in row.items() if key in columns} for row in rows[name]), key=str)


def _tables(connection: Connection) -> list[Table]:
    found = MetaData()
    found.reflect(connection, only=lambda name, _: name not in APART)
    return list(found.sorted_tables)


def _row(table: Table, chosen: dict[str, str], mark: str) -> dict[str, Any]:
    # What has a default is left to it, as a program does that does not know the column.
    wanted = [column for column in table.columns if not column.nullable and column.server_default is None]
    return {column.name: chosen.get(column.name) or _value(table, column, mark) for column in wanted}


def _choices(connection: Connection) -> dict[str, dict[str, str]]:
    """By table, the first value that a CHECK lets a column have."""
    chosen: dict[str, dict[str, str]] = {}
    for (_schema, table), checks in look_at(connection).get_multi_check_constraints().items():
        for check in checks:
            if match := re.match(r"\W*(\w+)\W.*?'(\w+)'", check["sqltext"], re.DOTALL):
                chosen.setdefault(table, {})[match[1]] = match[2]
    return chosen


def _value(table: Table, column: Column[Any], mark: str) -> Any:
    kinds: dict[type[Any], Any] = {DateTime: LATER, Date: date(2026, 3, 2), JSON: {}, Flag: True, LargeBinary: b"x"}
    for kind, value in kinds.items():
        if isinstance(column.type, kind):
            return value
    if isinstance(column.type, String):
        if column.foreign_keys:
            # The parent's row has the name of its own table.
            [parent] = {key.column.table.name for key in column.foreign_keys}
            return f"{mark}-{parent}"[: column.type.length]
        return (f"{mark}-{table.name}" if column.name == "id" else mark)[: column.type.length]
    return sum(map(ord, mark))
