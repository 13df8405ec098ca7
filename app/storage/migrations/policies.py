"""Row level security, as revisions switch it on: a row is its tenant's, whoever asks, also the tables' owner."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.storage.migrations.online import alone, on_postgres

POLICY = "tenant_rows"
# The app says at each transaction's beginning whose it is; unsaid, nothing is seen and nothing can be written.
_MINE = "current_setting('trellis.tenant', true) IN (tenant_id, '*')"

_FOUND = sa.text(
    "SELECT count(*) FROM pg_policies"
    " WHERE schemaname = current_schema() AND tablename = :table AND policyname = :policy"
)


def protect(tables: Sequence[str]) -> None:
    """PostgreSQL alone has policies: nothing for SQLite, where the one process is the boundary.

    One table after the other, each statement by itself: a transaction over all of them would keep every request.
    """
    if not on_postgres():
        return
    with alone():
        for table in tables:
            if not _has_policy(table):
                op.execute(f"CREATE POLICY {POLICY} ON {table} USING ({_MINE}) WITH CHECK ({_MINE})")
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def unprotect(tables: Sequence[str]) -> None:
    if not on_postgres():
        return
    with alone():
        for table in reversed(tables):
            op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY")
            op.execute(f"DROP POLICY IF EXISTS {POLICY} ON {table}")


def _has_policy(table: str) -> bool:
    """Left by a run that was interrupted. Taken away and made again, it would hide the table's rows in between."""
    if op.get_context().as_sql:
        return False
    return bool(op.get_bind().execute(_FOUND, {"table": table, "policy": POLICY}).scalar_one())
