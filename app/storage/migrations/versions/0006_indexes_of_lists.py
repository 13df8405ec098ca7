"""indexes that lists are read by"""

from collections.abc import Sequence

from app.storage.migrations.online import create_index, drop_index

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INDEXES = (
    ("ix_documents_of_bot", "documents", ("tenant_id", "bot", "status", "id")),
    ("ix_team_clients_newest", "team_clients", ("tenant_id", "id")),
    ("ix_team_health_scores_newest", "team_health_scores", ("tenant_id", "client_id", "id")),
)


def upgrade() -> None:
    for name, table, columns in INDEXES:
        create_index(name, table, columns)


def downgrade() -> None:
    for name, table, _columns in reversed(INDEXES):
        drop_index(name, table)
