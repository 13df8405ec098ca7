"""Row level security, as revisions switch it on: a row is its tenant's, whoever asks, also the tables' owner."""

from collections.abc import Sequence

from alembic import op

POLICY = "tenant_rows"
# The app says at each transaction's beginning whose it is; unsaid, nothing is seen and nothing can be written.
_MINE = "current_setting('trellis.tenant', true) IN (tenant_id, '*')"


def protect(tables: Sequence[str]) -> None:
    """PostgreSQL alone has policies: nothing for SQLite, where the one process is the boundary."""
    if op.get_context().dialect.name != "postgresql":
        return
    for table in tables:
        op.execute(f"CREATE POLICY {POLICY} ON {table} USING ({_MINE}) WITH CHECK ({_MINE})")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def unprotect(tables: Sequence[str]) -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    for table in reversed(tables):
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
        op.execute(f"DROP POLICY IF EXISTS {POLICY} ON {table}")
