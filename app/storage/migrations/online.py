"""Changes that do not stop a running app, for revisions. Each may be run again after it was interrupted.

On PostgreSQL each is committed at once, before the revision is recorded: give such changes a revision of their own,
with nothing in it that cannot be run twice. On SQLite they are plain statements of the revision's one transaction.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import sqlalchemy as sa
from alembic import op

from app.storage.migrations.limits import at_once, patiently

_INVALID = sa.text(
    "SELECT count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
    " WHERE relname = :name AND relnamespace = to_regnamespace(current_schema()) AND NOT indisvalid"
)


def on_postgres() -> bool:
    return op.get_context().dialect.name == "postgresql"


@contextmanager
def alone() -> Iterator[None]:
    """Each statement of the block is a transaction of its own on PostgreSQL: it holds no lock for the next."""
    if not on_postgres():
        yield
        return
    with op.get_context().autocommit_block():
        yield


def create_index(
    name: str, table: str, columns: Sequence[str | sa.TextClause], *, unique: bool = False, where: str | None = None
) -> None:
    """Builds an index while rows are read and written. What an interrupted build left behind is built again.

    Args:
        columns: names, or `sa.text` for an expression (`sa.text("created_at DESC")`).
        where: the condition of a partial index, the same on both databases.
    """
    condition = None if where is None else sa.text(where)
    wanted = [*columns]
    if not on_postgres():
        op.create_index(name, table, wanted, unique=unique, sqlite_where=condition)
        return
    with _long_build():
        if _is_invalid(name):
            _drop(name)
        op.create_index(
            name,
            table,
            wanted,
            unique=unique,
            postgresql_where=condition,
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def drop_index(name: str, table: str) -> None:
    """Takes an index away while rows are read and written."""
    if not on_postgres():
        op.drop_index(name, table)
        return
    with _long_build():
        _drop(name)


def add_check(name: str, table: str, condition: str) -> None:
    """Adds a CHECK constraint: from now on for what is written, then for the rows that are there, without stopping
    writers. Raises the database's IntegrityError where a row breaks it."""
    if not on_postgres():
        with op.batch_alter_table(table) as copy:
            copy.create_check_constraint(op.f(name), sa.text(condition))
        return
    _add_constraint(name, table, f"CHECK ({condition})")


def add_foreign_key(
    name: str, table: str, columns: Sequence[str], of: str, of_columns: Sequence[str], *, ondelete: str | None = None
) -> None:
    """Adds a foreign key to table `of`, in the same two steps as `add_check`."""
    if not on_postgres():
        with op.batch_alter_table(table) as copy:
            copy.create_foreign_key(op.f(name), of, list(columns), list(of_columns), ondelete=ondelete)
        return
    rule = f" ON DELETE {ondelete}" if ondelete else ""
    ours, theirs = ", ".join(columns), ", ".join(of_columns)
    _add_constraint(name, table, f"FOREIGN KEY ({ours}) REFERENCES {of} ({theirs}){rule}")


def drop_constraint(name: str, table: str, kind: Literal["check", "foreignkey"]) -> None:
    """Takes a constraint away."""
    if not on_postgres():
        with op.batch_alter_table(table) as copy:
            copy.drop_constraint(op.f(name), type_=kind)
        return
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")


def _add_constraint(name: str, table: str, rule: str) -> None:
    with alone():
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {rule} NOT VALID")
    with _long_build():
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


@contextmanager
def _long_build() -> Iterator[None]:
    # It blocks nobody, and a concurrent build waits for every transaction that is older than itself.
    with alone():
        for statement in patiently():
            op.execute(statement)
        yield
        for statement in at_once():
            op.execute(statement)


def _drop(name: str) -> None:
    op.drop_index(name, postgresql_concurrently=True, if_exists=True)


def _is_invalid(name: str) -> bool:
    if op.get_context().as_sql:
        return False
    return bool(op.get_bind().execute(_INVALID, {"name": name}).scalar_one())
