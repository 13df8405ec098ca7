"""the house and the lead agent"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "approvals",
        sa.Column("tool", sa.String(length=64), nullable=False),
        sa.Column("args", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("requested_by", sa.String(length=200), nullable=False),
        sa.Column("decided_by", sa.String(length=200), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
        sa.UniqueConstraint("tenant_id", "key", name="uq_approvals_tenant_id_key"),
    )
    op.create_index("ix_approvals_state", "approvals", ["tenant_id", "state", "id"], unique=False)
    op.create_index("ix_approvals_subject", "approvals", ["tenant_id", "subject_id"], unique=False)

    op.create_table(
        "audit_entries",
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=120), nullable=False),
        sa.Column("action", sa.String(length=80), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_entries"),
        sa.UniqueConstraint("tenant_id", "seq", name="uq_audit_entries_tenant_id_seq"),
    )
    op.create_table(
        "audit_heads",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_audit_heads"),
    )
    op.create_table(
        "bookings",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attendee_email", sa.String(length=320), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_bookings"),
        sa.UniqueConstraint("tenant_id", "key", name="uq_bookings_tenant_id_key"),
    )
    op.create_index("ix_bookings_attendee_email", "bookings", ["attendee_email"], unique=False)
    op.create_index("ix_bookings_tenant_id_starts_at", "bookings", ["tenant_id", "starts_at"], unique=False)

    op.create_table(
        "budget_leases",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_budget_leases"),
    )
    op.create_index("ix_budget_leases_expiry", "budget_leases", ["tenant_id", "expires_at"], unique=False)

    op.create_table(
        "console_used_tickets",
        sa.Column("nonce", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name="pk_console_used_tickets"),
    )
    op.create_index("ix_console_used_tickets_expires_at", "console_used_tickets", ["expires_at"], unique=False)

    op.create_table(
        "crm_contacts",
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("company", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("properties", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_crm_contacts"),
        sa.UniqueConstraint("tenant_id", "email", name="uq_crm_contacts_tenant_id_email"),
    )
    op.create_table(
        "decisions",
        sa.Column("pack", sa.String(length=40), nullable=False),
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("trigger_id", sa.String(length=64), nullable=False),
        sa.Column("trigger_key", sa.String(length=320), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("inputs", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("evidence", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("prompt_name", sa.String(length=80), nullable=True),
        sa.Column("prompt_version", sa.Integer(), nullable=True),
        sa.Column("model", sa.String(length=120), nullable=True),
        sa.Column("provider", sa.String(length=80), nullable=True),
        sa.Column("route", sa.String(length=40), nullable=True),
        sa.Column("experiment", sa.String(length=80), nullable=True),
        sa.Column("arm", sa.String(length=80), nullable=True),
        sa.Column("policy_version", sa.Integer(), nullable=True),
        sa.Column("score_model_version", sa.String(length=80), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("answer", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("tool_calls", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("tokens_in", sa.Integer(), nullable=False),
        sa.Column("tokens_out", sa.Integer(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.Double(), nullable=False),
        sa.Column("model_ms", sa.Double(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('decided', 'done', 'waiting_approval', 'failed')", name="ck_decisions_state"),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
        sa.UniqueConstraint("trigger_key", name="uq_decisions_trigger_key"),
    )
    op.create_index("ix_decisions_by_time", "decisions", ["tenant_id", "pack", "created_at"], unique=False)
    op.create_index("ix_decisions_newest", "decisions", ["tenant_id", "id"], unique=False)
    op.create_index("ix_decisions_subject", "decisions", ["tenant_id", "subject_id"], unique=False)

    op.create_table(
        "documents",
        sa.Column("bot", sa.String(length=64), nullable=False),
        sa.Column("slug", sa.String(length=96), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("tags", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("embedder", sa.String(length=120), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("chunk_count", sa.Integer(), nullable=False),
        sa.Column("quarantined_count", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_documents"),
        sa.UniqueConstraint("tenant_id", "bot", "slug", name="uq_documents_tenant_id_bot_slug"),
    )
    op.create_index("ix_documents_status", "documents", ["status"], unique=False)

    op.create_table(
        "effects",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("tool", sa.String(length=64), nullable=False),
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("args", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("claim", sa.String(length=64), nullable=False),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("receipt", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_effects"),
        sa.UniqueConstraint("tenant_id", "key", name="uq_effects_tenant_id_key"),
    )
    op.create_index("ix_effects_state", "effects", ["state", "claimed_until"], unique=False)
    op.create_index("ix_effects_subject", "effects", ["tenant_id", "subject_id"], unique=False)

    op.create_table(
        "experiments",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("pack", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("arms", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('draft', 'running', 'stopped')", name="ck_experiments_state"),
        sa.PrimaryKeyConstraint("id", name="pk_experiments"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_experiments_tenant_id_name"),
    )
    op.create_index(
        "uq_experiments_running",
        "experiments",
        ["tenant_id", "pack"],
        unique=True,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )

    op.create_table(
        "flags",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("value", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.String(length=120), nullable=False),
        sa.PrimaryKeyConstraint("name", "tenant", name="pk_flags"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.String(length=64), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_idempotency_keys"),
        sa.UniqueConstraint("tenant_id", "key", name="uq_idempotency_keys_tenant_id_key"),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"], unique=False)

    op.create_table(
        "job_workers",
        sa.Column("executor_id", sa.String(length=100), nullable=False),
        sa.Column("version", sa.String(length=100), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("executor_id", name="pk_job_workers"),
    )
    op.create_index("ix_job_workers_seen_at", "job_workers", ["seen_at"], unique=False)

    op.create_table(
        "knowledge_indexes",
        sa.Column("bot", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_knowledge_indexes"),
        sa.UniqueConstraint("tenant_id", "bot", name="uq_knowledge_indexes_tenant_id_bot"),
    )
    op.create_table(
        "lead_score_models",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("artifact", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("measures", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_lead_score_models"),
        sa.UniqueConstraint("tenant_id", "version", name="uq_lead_score_models_tenant_id_version"),
    )
    op.create_table(
        "leads",
        sa.Column("external_id", sa.String(length=200), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("company", sa.String(length=200), nullable=True),
        sa.Column("phone", sa.String(length=50), nullable=True),
        sa.Column("language", sa.String(length=20), nullable=True),
        sa.Column("country", sa.String(length=100), nullable=True),
        sa.Column("source", sa.String(length=50), nullable=False),
        sa.Column("attributes", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("first_response_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("follow_up_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_leads"),
        sa.UniqueConstraint("tenant_id", "external_id", name="uq_leads_tenant_id_external_id"),
    )
    op.create_index("ix_leads_follow_up", "leads", ["follow_up_at"], unique=False)
    op.create_index("ix_leads_newest", "leads", ["tenant_id", "id"], unique=False)
    op.create_index("ix_leads_tenant_email", "leads", ["tenant_id", "email"], unique=False)
    op.create_index("ix_leads_tenant_status", "leads", ["tenant_id", "status", "id"], unique=False)

    op.create_table(
        "outbox",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("recipient", sa.String(length=320), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("reply_to", sa.String(length=320), nullable=True),
        sa.Column("headers", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("tenant_id", "key", name="uq_outbox_tenant_id_key"),
    )
    op.create_index("ix_outbox_recipient", "outbox", ["recipient"], unique=False)

    op.create_table(
        "policies",
        sa.Column("pack", sa.String(length=40), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("thresholds", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("evidence", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("activated_by", sa.String(length=120), nullable=True),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('proposed', 'active', 'retired')", name="ck_policies_state"),
        sa.PrimaryKeyConstraint("id", name="pk_policies"),
        sa.UniqueConstraint("tenant_id", "pack", "version", name="uq_policies_tenant_id_pack_version"),
    )
    op.create_index(
        "uq_policies_active",
        "policies",
        ["tenant_id", "pack"],
        unique=True,
        sqlite_where=sa.text("state = 'active'"),
        postgresql_where=sa.text("state = 'active'"),
    )

    op.create_table(
        "tenant_tools",
        sa.Column("tool", sa.String(length=64), nullable=False),
        sa.Column("mode", sa.String(length=10), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.String(length=200), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenant_tools"),
        sa.UniqueConstraint("tenant_id", "tool", name="uq_tenant_tools_tenant_id_tool"),
    )
    op.create_table(
        "tenant_usage",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("reserved_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reserved_cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenant_usage"),
        sa.UniqueConstraint("tenant_id", "day", name="uq_tenant_usage_tenant_id_day"),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
    )
    op.create_table(
        "api_keys",
        sa.Column("label", sa.String(length=100), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("tier", sa.String(length=16), nullable=False),
        sa.Column("hint", sa.String(length=16), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_api_keys_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("secret_hash", name="uq_api_keys_secret_hash"),
    )
    op.create_table(
        "booking_cells",
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("booking_id", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["booking_id"], ["bookings.id"], name="fk_booking_cells_booking_id_bookings"),
        sa.PrimaryKeyConstraint("id", name="pk_booking_cells"),
        sa.UniqueConstraint("tenant_id", "starts_at", name="uq_booking_cells_tenant_id_starts_at"),
    )
    op.create_index("ix_booking_cells_booking_id", "booking_cells", ["booking_id"], unique=False)

    op.create_table(
        "chunks",
        sa.Column("document_id", sa.String(length=64), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("heading", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("findings", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id"], ["documents.id"], name="fk_chunks_document_id_documents", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_chunks"),
    )
    op.create_index("ix_chunks_document_id", "chunks", ["document_id"], unique=False)

    op.create_table(
        "crm_notes",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("contact_id", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["contact_id"], ["crm_contacts.id"], name="fk_crm_notes_contact_id_crm_contacts"),
        sa.PrimaryKeyConstraint("id", name="pk_crm_notes"),
        sa.UniqueConstraint("tenant_id", "key", name="uq_crm_notes_tenant_id_key"),
    )
    op.create_index("ix_crm_notes_contact_id", "crm_notes", ["contact_id"], unique=False)

    op.create_table(
        "crm_writes",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("contact_id", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["contact_id"], ["crm_contacts.id"], name="fk_crm_writes_contact_id_crm_contacts"),
        sa.PrimaryKeyConstraint("id", name="pk_crm_writes"),
        sa.UniqueConstraint("tenant_id", "key", name="uq_crm_writes_tenant_id_key"),
    )
    op.create_index("ix_crm_writes_contact_id", "crm_writes", ["contact_id"], unique=False)

    op.create_table(
        "lead_events",
        sa.Column("lead_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["lead_id"], ["leads.id"], name="fk_lead_events_lead_id_leads", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_lead_events"),
    )
    op.create_index("ix_lead_events_lead", "lead_events", ["tenant_id", "lead_id", "id"], unique=False)

    op.create_table(
        "lead_feedback",
        sa.Column("lead_id", sa.String(length=64), nullable=False),
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("thumb", sa.String(length=4), nullable=True),
        sa.Column("correct_action", sa.String(length=20), nullable=True),
        sa.Column("csat", sa.Integer(), nullable=True),
        sa.Column("escalation_necessary", sa.Boolean(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("given_by", sa.String(length=100), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["lead_id"], ["leads.id"], name="fk_lead_feedback_lead_id_leads", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_lead_feedback"),
    )
    op.create_index("ix_lead_feedback_decision", "lead_feedback", ["tenant_id", "decision_id", "id"], unique=False)

    op.create_table(
        "lead_messages",
        sa.Column("lead_id", sa.String(length=64), nullable=False),
        sa.Column("direction", sa.String(length=10), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["lead_id"], ["leads.id"], name="fk_lead_messages_lead_id_leads", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_lead_messages"),
    )
    op.create_index("ix_lead_messages_lead", "lead_messages", ["tenant_id", "lead_id", "id"], unique=False)

    op.create_table(
        "lead_outcomes",
        sa.Column("lead_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("value_micros", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["lead_id"], ["leads.id"], name="fk_lead_outcomes_lead_id_leads", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_lead_outcomes"),
    )
    op.create_index("ix_lead_outcomes_lead", "lead_outcomes", ["tenant_id", "lead_id", "id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_lead_outcomes_lead", table_name="lead_outcomes")

    op.drop_table("lead_outcomes")
    op.drop_index("ix_lead_messages_lead", table_name="lead_messages")

    op.drop_table("lead_messages")
    op.drop_index("ix_lead_feedback_decision", table_name="lead_feedback")

    op.drop_table("lead_feedback")
    op.drop_index("ix_lead_events_lead", table_name="lead_events")

    op.drop_table("lead_events")
    op.drop_index("ix_crm_writes_contact_id", table_name="crm_writes")

    op.drop_table("crm_writes")
    op.drop_index("ix_crm_notes_contact_id", table_name="crm_notes")

    op.drop_table("crm_notes")
    op.drop_index("ix_chunks_document_id", table_name="chunks")

    op.drop_table("chunks")
    op.drop_index("ix_booking_cells_booking_id", table_name="booking_cells")

    op.drop_table("booking_cells")
    op.drop_table("api_keys")
    op.drop_table("tenants")
    op.drop_table("tenant_usage")
    op.drop_table("tenant_tools")
    op.drop_index("uq_policies_active", table_name="policies")

    op.drop_table("policies")
    op.drop_index("ix_outbox_recipient", table_name="outbox")

    op.drop_table("outbox")
    op.drop_index("ix_leads_tenant_status", table_name="leads")
    op.drop_index("ix_leads_tenant_email", table_name="leads")
    op.drop_index("ix_leads_newest", table_name="leads")
    op.drop_index("ix_leads_follow_up", table_name="leads")

    op.drop_table("leads")
    op.drop_table("lead_score_models")
    op.drop_table("knowledge_indexes")
    op.drop_index("ix_job_workers_seen_at", table_name="job_workers")

    op.drop_table("job_workers")
    op.drop_index("ix_idempotency_keys_expires_at", table_name="idempotency_keys")

    op.drop_table("idempotency_keys")
    op.drop_table("flags")
    op.drop_index("uq_experiments_running", table_name="experiments")

    op.drop_table("experiments")
    op.drop_index("ix_effects_subject", table_name="effects")
    op.drop_index("ix_effects_state", table_name="effects")

    op.drop_table("effects")
    op.drop_index("ix_documents_status", table_name="documents")

    op.drop_table("documents")
    op.drop_index("ix_decisions_subject", table_name="decisions")
    op.drop_index("ix_decisions_newest", table_name="decisions")
    op.drop_index("ix_decisions_by_time", table_name="decisions")

    op.drop_table("decisions")
    op.drop_table("crm_contacts")
    op.drop_index("ix_console_used_tickets_expires_at", table_name="console_used_tickets")

    op.drop_table("console_used_tickets")
    op.drop_index("ix_budget_leases_expiry", table_name="budget_leases")

    op.drop_table("budget_leases")
    op.drop_index("ix_bookings_tenant_id_starts_at", table_name="bookings")
    op.drop_index("ix_bookings_attendee_email", table_name="bookings")

    op.drop_table("bookings")
    op.drop_table("audit_heads")
    op.drop_table("audit_entries")
    op.drop_index("ix_approvals_subject", table_name="approvals")
    op.drop_index("ix_approvals_state", table_name="approvals")

    op.drop_table("approvals")
