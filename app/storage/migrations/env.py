"""Runs revisions on a connection, or writes their SQL, as `app.storage.revisions` asks."""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import JSON, Connection, text

from app.principal import EVERY_TENANT
from app.storage.base import Base
from app.storage.migrations.limits import at_once
from app.storage.postgres import TENANT
from app.storage.programs import record
from app.storage.types import UtcDateTime


def _ours(_object: object, name: str | None, kind: str, reflected: bool, _compare_to: object) -> bool:
    # The job engine's tables live in the same database and are its own affair.
    return not (kind == "table" and reflected and name not in Base.metadata.tables)


def _plain_types(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    """A revision must not change when a type of ours does: it names what the database sees."""
    if kind != "type":
        return False
    if isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if isinstance(item, JSON):
        return 'sa.JSON().with_variant(postgresql.JSONB(), "postgresql")'
    return False


def run(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # What a revision does to rows it does to every tenant's.
        connection.execute(text(f"SELECT set_config('{TENANT}', '{EVERY_TENANT}', false)"))
        for statement in at_once():
            connection.execute(text(statement))
        connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=_ours,
        compare_type=True,
        render_item=_plain_types,
        # SQLite cannot alter a column in place: Alembic copies the table.
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=True,
        on_version_apply=record,
    )
    with context.begin_transaction():
        context.run_migrations()


def write(dialect: str) -> None:
    context.configure(
        dialect_name=dialect,
        literal_binds=True,
        transactional_ddl=True,
        transaction_per_migration=True,
        on_version_apply=record,
    )
    with context.begin_transaction():
        for statement in at_once() if dialect == "postgresql" else ():
            context.execute(statement)
        context.run_migrations()


if context.is_offline_mode():
    write(context.config.attributes["dialect"])
else:
    run(context.config.attributes["connection"])
