"""Two small tables to move, in SQLite files: a parent with a unique name, a child of it, and every kind of value."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
)

from app.jobs.tables import tables_of_jobs
from app.promotion.promotion import Limits, Promotion
from app.promotion.side import Side
from app.promotion.sqlite_side import SqliteSide
from app.promotion.steps import Context, Progress, Step
from app.promotion.tables import MovedTable, described
from app.settings import Settings
from app.storage.types import Json, UtcDateTime

METADATA = MetaData()
# A column of bytes makes pages of four rows.
PARENTS = Table(
    "parents",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("tenant_id", String(64), nullable=False),
    Column("name", String(64)),
    Column("number", Integer),
    Column("share", Float),
    Column("active", Boolean),
    Column("data", Json),
    Column("made_at", UtcDateTime),
    Column("day", Date),
    Column("file", LargeBinary),
    UniqueConstraint("tenant_id", "name"),
)
CHILDREN = Table(
    "children",
    METADATA,
    Column("parent_id", ForeignKey("parents.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("file", LargeBinary),
)
JOBS = tables_of_jobs()[0]
TABLES: tuple[MovedTable, ...] = (described(PARENTS), described(CHILDREN), described(JOBS, "dbos"))


def new_file(path: Path) -> Path:
    """A database with the tables, as the app opens it."""
    engine = create_engine(f"sqlite:///{path}")
    METADATA.create_all(engine)
    columns = ", ".join(f'"{column.name}" {column.type}' for column in JOBS.columns if not column.primary_key)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {JOBS.name} (workflow_uuid TEXT PRIMARY KEY, {columns})")
    engine.dispose()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    return path


def connect(path: Path) -> sqlite3.Connection:
    """As the app does: foreign keys hold, each statement is a transaction."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=15)
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def add_parents(connection: sqlite3.Connection, count: int) -> None:
    rows = ((f"parent_{n:04d}", "acme", f"name-{n}", n, n / 7, '{"b": 1, "a": [0.5]}', b"file") for n in range(count))
    connection.executemany(
        "INSERT INTO parents (id, tenant_id, name, number, share, data, file) VALUES (?, ?, ?, ?, ?, ?, ?)", rows
    )
    connection.execute("INSERT INTO children SELECT id, 1, zeroblob(3) FROM parents")


def rows(path: Path) -> dict[str, list[Any]]:
    with sqlite3.connect(path) as connection:
        return {
            table.name: connection.execute(f"SELECT * FROM {table.name} ORDER BY 1, 2").fetchall() for table in TABLES
        }


def promotion(
    source: Side,
    target: Side,
    progress: Progress = lambda *_: None,
    *,
    steps: Sequence[Step] = (),
    **limits: float,
) -> Promotion:
    settings = Settings()
    return Promotion(Context(settings, settings, source, target, progress), TABLES, steps, Limits(**limits))


def side(path: Path) -> SqliteSide:
    return SqliteSide(path, TABLES)


class Killed(BaseException):
    """The process that moves is no more."""


class Life:
    """So many calls of either side, then none any more."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


class Mortal:
    """A side, snapshot or transaction whose every call takes from a life."""

    def __init__(self, whole: Any, life: Life) -> None:
        self._whole = whole
        self._life = life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._whole, name)
        if name in ("snapshot", "writing", "alone"):
            return lambda: self._within(found)
        if not callable(found):
            return found

        async def call(*args: Any, **named: Any) -> Any:
            self._life.take()
            return await found(*args, **named)

        return call

    @asynccontextmanager
    async def _within(self, open_: Callable[[], AbstractAsyncContextManager[Any]]) -> Any:
        self._life.take()
        async with open_() as inner:
            yield Mortal(inner, self._life)
            self._life.take()
