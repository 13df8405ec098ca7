"""The tables that a promotion moves, and what their columns hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import JSON, Boolean, Date, DateTime, Float, LargeBinary, Table, UniqueConstraint
from sqlalchemy.types import TypeDecorator, TypeEngine

from app import container
from app.jobs.models import JobWorker
from app.jobs.store import SCHEMA
from app.jobs.tables import tables_of_jobs
from app.storage.base import Base

STAYING: Final = frozenset({JobWorker.__tablename__, "schema_programs"})
"""What a database says of its own workers and its own schema."""
PAGE_ROWS: Final = 1_000
PAGE_OF_FILES: Final = 4
"""Rows a page of a table that holds files, each of up to 20 MB."""


class Kind(StrEnum):
    """What a column holds, whatever its type is called in a database."""

    PLAIN = "plain"
    FLOAT = "float"
    BOOLEAN = "boolean"
    MOMENT = "moment"
    DATE = "date"
    JSON = "json"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class MovedTable:
    """One table. `key` are the primary key's columns in its order; `kinds` follow `columns`.

    Args:
        owner: the schema that it lies in on PostgreSQL; empty for the app's own.
        parked: columns that a row may give to another one (unique together with others), to be emptied first.
    """

    name: str
    columns: tuple[str, ...]
    kinds: tuple[Kind, ...]
    key: tuple[str, ...]
    owner: str = ""
    parked: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[int, ...]:
        """Where the key's columns are in a row."""
        return tuple(self.columns.index(name) for name in self.key)

    @property
    def page_rows(self) -> int:
        return PAGE_OF_FILES if Kind.BYTES in self.kinds else PAGE_ROWS


def moved_tables() -> tuple[MovedTable, ...]:
    """All of the app and of its job engine, parents before children; not what only living workers say."""
    # Packs declare their tables when they are imported.
    assert container.PACKS
    ours = [described(table) for table in Base.metadata.sorted_tables if table.name not in STAYING]
    return (*ours, *(described(table, SCHEMA) for table in tables_of_jobs()))


def described(table: Table, owner: str = "") -> MovedTable:
    """A table of SQLAlchemy as a promotion sees it."""
    return MovedTable(
        name=str(table.name),
        columns=tuple(str(column.name) for column in table.columns),
        kinds=tuple(_kind(column.type) for column in table.columns),
        key=tuple(str(column.name) for column in table.primary_key),
        owner=owner,
        parked=tuple(dict.fromkeys(_parked(table))),
    )


def _parked(table: Table) -> Sequence[str]:
    indexed = [[column.name for column in index.columns] for index in table.indexes if index.unique]
    constrained = [
        [column.name for column in constraint.columns]
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    ]
    found = []
    for names in (*indexed, *constrained):
        texts = [name for name in names if _may_hold_a_mark(table, name)]
        found += texts[-1:]
    return found


def _may_hold_a_mark(table: Table, name: str) -> bool:
    column = table.columns[name]
    if column.primary_key or column.foreign_keys or name == "tenant_id" or column.type.python_type is not str:
        return False
    return (getattr(column.type, "length", None) or 64) >= 32


def _kind(type_: TypeEngine[object]) -> Kind:
    inner = type_.impl if isinstance(type_, TypeDecorator) else type_
    for kind, types in (
        (Kind.JSON, JSON),
        (Kind.BOOLEAN, Boolean),
        (Kind.MOMENT, DateTime),
        (Kind.DATE, Date),
        (Kind.FLOAT, Float),
        (Kind.BYTES, LargeBinary),
    ):
        if isinstance(inner, types):
            return kind
    return Kind.PLAIN
