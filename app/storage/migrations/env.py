"""Runs the revisions on a connection that `app.storage.schema` gives."""

from alembic import context
from sqlalchemy import Connection

from app.storage.base import Base


def _ours(_object: object, name: str | None, kind: str, reflected: bool, _compare_to: object) -> bool:
    # The job engine's tables live in the same database and are its own affair.
    return not (kind == "table" and reflected and name not in Base.metadata.tables)


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=_ours,
        compare_type=True,
        # SQLite cannot alter a column in place: Alembic copies the table.
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
