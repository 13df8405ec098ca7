"""which programs run on a schema"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "schema_programs",
        sa.Column("program", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("program", name="pk_schema_programs"),
    )


def downgrade() -> None:
    op.drop_table("schema_programs")
