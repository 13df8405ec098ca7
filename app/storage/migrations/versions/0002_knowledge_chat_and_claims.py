"""knowledge chat and claims"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "answer_feedback",
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("bot", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("helpful", sa.Boolean(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_answer_feedback"),
        sa.UniqueConstraint(
            "tenant_id", "decision_id", "subject", name="uq_answer_feedback_tenant_id_decision_id_subject"
        ),
    )
    op.create_index("ix_answer_feedback_subject", "answer_feedback", ["tenant_id", "subject"], unique=False)

    op.create_table(
        "bots",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("settings", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_bots"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_bots_tenant_id_name"),
    )
    op.create_table(
        "claims_members",
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_claims_members"),
        sa.UniqueConstraint("tenant_id", "user_id", name="uq_claims_members_tenant_id_user_id"),
    )
    op.create_index("ix_claims_members_email", "claims_members", ["tenant_id", "email"], unique=False)

    op.create_table(
        "claims_policies",
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("number", sa.String(length=32), nullable=False),
        sa.Column("product", sa.String(length=120), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("starts_on", sa.Date(), nullable=False),
        sa.Column("ends_on", sa.Date(), nullable=True),
        sa.Column("limits", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_claims_policies"),
        sa.UniqueConstraint("tenant_id", "number", name="uq_claims_policies_tenant_id_number"),
    )
    op.create_index("ix_claims_policies_user", "claims_policies", ["tenant_id", "user_id"], unique=False)

    op.create_table(
        "knowledge_generations",
        sa.Column("bot", sa.String(length=64), nullable=False),
        sa.Column("embedder", sa.String(length=120), nullable=False),
        sa.Column("bounds", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("documents_done", sa.Integer(), nullable=False),
        sa.Column("documents_total", sa.Integer(), nullable=False),
        sa.Column("report", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_knowledge_generations"),
    )
    op.create_index("ix_knowledge_generations_bot", "knowledge_generations", ["tenant_id", "bot"], unique=False)

    op.create_table(
        "knowledge_questions",
        sa.Column("bot", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("slugs", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_knowledge_questions"),
        sa.UniqueConstraint("tenant_id", "bot", "digest", name="uq_knowledge_questions_tenant_id_bot_digest"),
    )
    op.create_table(
        "claims",
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("policy_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.String(length=32), nullable=False),
        sa.Column("benefit", sa.String(length=60), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("amount_claimed", sa.Integer(), nullable=False),
        sa.Column("amount_paid", sa.Integer(), nullable=False),
        sa.Column("incurred_on", sa.Date(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["claims_policies.id"], name="fk_claims_policy_id_claims_policies", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_claims"),
        sa.UniqueConstraint("tenant_id", "number", name="uq_claims_tenant_id_number"),
    )
    op.create_index("ix_claims_user", "claims", ["tenant_id", "user_id"], unique=False)

    op.create_table(
        "document_uploads",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["id"], ["documents.id"], name="fk_document_uploads_id_documents", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_document_uploads"),
    )
    op.add_column("chunks", sa.Column("generation", sa.String(length=64), server_default="", nullable=False))
    op.add_column("chunks", sa.Column("status", sa.String(length=16), server_default="ready", nullable=False))
    op.add_column("chunks", sa.Column("last_error", sa.Text(), nullable=True))
    op.add_column("chunks", sa.Column("superseded", sa.Boolean(), server_default=sa.false(), nullable=False))

    op.add_column(
        "documents", sa.Column("media_type", sa.String(length=100), server_default="text/markdown", nullable=False)
    )
    op.add_column("documents", sa.Column("file_name", sa.String(length=255), nullable=True))
    op.add_column("documents", sa.Column("size_bytes", sa.Integer(), server_default="0", nullable=False))
    op.add_column("documents", sa.Column("job_id", sa.String(length=120), nullable=True))
    op.add_column(
        "documents",
        sa.Column(
            "warnings",
            sa.JSON().with_variant(postgresql.JSONB(), "postgresql"),
            server_default="[]",
            nullable=False,
        ),
    )

    op.create_table(
        "person_erasures",
        sa.Column("aliases", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_person_erasures"),
    )

    op.add_column("knowledge_indexes", sa.Column("active", sa.String(length=64), server_default="", nullable=False))
    op.add_column("knowledge_indexes", sa.Column("previous", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("knowledge_indexes", "previous")
    op.drop_column("knowledge_indexes", "active")

    op.drop_table("person_erasures")

    op.drop_column("documents", "warnings")
    op.drop_column("documents", "job_id")
    op.drop_column("documents", "size_bytes")
    op.drop_column("documents", "file_name")
    op.drop_column("documents", "media_type")

    # The former program knows one index a bot: pieces of the others would be taken for its own.
    op.execute("DELETE FROM chunks WHERE generation <> ''")
    op.drop_column("chunks", "superseded")
    op.drop_column("chunks", "last_error")
    op.drop_column("chunks", "status")
    op.drop_column("chunks", "generation")

    op.drop_table("document_uploads")
    op.drop_index("ix_claims_user", table_name="claims")

    op.drop_table("claims")
    op.drop_table("knowledge_questions")
    op.drop_index("ix_knowledge_generations_bot", table_name="knowledge_generations")

    op.drop_table("knowledge_generations")
    op.drop_index("ix_claims_policies_user", table_name="claims_policies")

    op.drop_table("claims_policies")
    op.drop_index("ix_claims_members_email", table_name="claims_members")

    op.drop_table("claims_members")
    op.drop_table("bots")
    op.drop_index("ix_answer_feedback_subject", table_name="answer_feedback")

    op.drop_table("answer_feedback")
