"""treatments and teams"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "context_records",
        sa.Column("place", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_context_records"),
        sa.UniqueConstraint("tenant_id", "place", "kind", "key", name="uq_context_records_tenant_id_place_kind_key"),
    )

    op.create_table(
        "team_clients",
        sa.Column("external_id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("crm_id", sa.String(length=128), nullable=False),
        sa.Column("repository", sa.String(length=200), nullable=False),
        sa.Column("attributes", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_team_clients"),
        sa.UniqueConstraint("tenant_id", "external_id", name="uq_team_clients_tenant_id_external_id"),
    )
    op.create_index("ix_team_clients_email", "team_clients", ["tenant_id", "email"], unique=False)

    op.create_table(
        "team_questions",
        sa.Column("team", sa.String(length=60), nullable=False),
        sa.Column("asked_by", sa.String(length=200), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("limits", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("answer", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_team_questions"),
    )
    op.create_index("ix_team_questions_asked", "team_questions", ["tenant_id", "asked_by", "id"], unique=False)

    op.create_table(
        "treatment_answers",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("profile", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("proposals", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("prompt_version", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("provider", sa.String(length=60), nullable=False),
        sa.Column("catalogue_version", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_treatment_answers"),
        sa.UniqueConstraint("tenant_id", "key", name="uq_treatment_answers_tenant_id_key"),
    )
    op.create_index("ix_treatment_answers_age", "treatment_answers", ["tenant_id", "created_at"], unique=False)

    op.create_table(
        "treatment_capacity",
        sa.Column("treatment", sa.String(length=40), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_treatment_capacity"),
        sa.UniqueConstraint("tenant_id", "treatment", "day", name="uq_treatment_capacity_tenant_id_treatment_day"),
    )
    op.create_table(
        "treatment_cases",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("treatment", sa.String(length=40), nullable=False),
        sa.Column("vector", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("successes", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_treatment_cases"),
        sa.UniqueConstraint(
            "tenant_id", "fingerprint", "treatment", name="uq_treatment_cases_tenant_id_fingerprint_treatment"
        ),
    )
    op.create_table(
        "treatment_catalogues",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_treatment_catalogues"),
        sa.UniqueConstraint("tenant_id", "version", name="uq_treatment_catalogues_tenant_id_version"),
    )
    op.create_table(
        "treatment_customers",
        sa.Column("external_id", sa.String(length=128), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("segment", sa.String(length=60), nullable=False),
        sa.Column("fair_group", sa.String(length=60), nullable=False),
        sa.Column("worth_micros", sa.BigInteger(), nullable=False),
        sa.Column("attributes", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_treatment_customers"),
        sa.UniqueConstraint("tenant_id", "external_id", name="uq_treatment_customers_tenant_id_external_id"),
    )
    op.create_index("ix_treatment_customers_email", "treatment_customers", ["tenant_id", "email"], unique=False)
    op.create_index("ix_treatment_customers_order", "treatment_customers", ["tenant_id", "id"], unique=False)
    op.create_index(
        "ix_treatment_customers_segment", "treatment_customers", ["tenant_id", "segment", "id"], unique=False
    )

    op.create_table(
        "treatment_runs",
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("scope", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("window", sa.String(length=11), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("control_share", sa.Float(), nullable=False),
        sa.Column("max_cost_micros", sa.BigInteger(), nullable=True),
        sa.Column("catalogue_version", sa.Integer(), nullable=False),
        sa.Column("allocate", sa.Boolean(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resume_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cursor", sa.String(length=64), nullable=False),
        sa.Column("exhausted", sa.Boolean(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("finished", sa.Integer(), nullable=False),
        sa.Column("set_aside", sa.Integer(), nullable=False),
        sa.Column("chunks", sa.Integer(), nullable=False),
        sa.Column("chunks_open", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("model_calls", sa.Integer(), nullable=False),
        sa.Column("shared_answers", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("active_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worked_s", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("evaluation", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_treatment_runs"),
    )
    op.create_index("ix_treatment_runs_state", "treatment_runs", ["tenant_id", "state"], unique=False)

    op.create_table(
        "team_client_signals",
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("quantity", sa.Float(), nullable=False),
        sa.Column("ref", sa.String(length=128), nullable=False),
        sa.Column("priority", sa.String(length=20), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"], ["team_clients.id"], name="fk_team_client_signals_client_id_team_clients", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_team_client_signals"),
        sa.UniqueConstraint("tenant_id", "client_id", "key", name="uq_team_client_signals_tenant_id_client_id_key"),
    )
    op.create_index(
        "ix_team_client_signals_time", "team_client_signals", ["tenant_id", "client_id", "at"], unique=False
    )

    op.create_table(
        "team_health_scores",
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("factors", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("method", sa.String(length=20), nullable=False),
        sa.Column("notes", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"], ["team_clients.id"], name="fk_team_health_scores_client_id_team_clients", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_team_health_scores"),
    )
    op.create_index(
        "ix_team_health_scores_client", "team_health_scores", ["tenant_id", "client_id", "at"], unique=False
    )

    op.create_table(
        "team_tasks",
        sa.Column("question_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("member", sa.String(length=60), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("after", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("evidence", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("missing", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("tools", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.Float(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["question_id"], ["team_questions.id"], name="fk_team_tasks_question_id_team_questions", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_team_tasks"),
        sa.UniqueConstraint("tenant_id", "question_id", "number", name="uq_team_tasks_tenant_id_question_id_number"),
    )
    op.create_table(
        "treatment_allocations",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("method", sa.String(length=10), nullable=False),
        sa.Column("feasible", sa.Boolean(), nullable=False),
        sa.Column("value_micros", sa.BigInteger(), nullable=False),
        sa.Column("bound_micros", sa.BigInteger(), nullable=False),
        sa.Column("gap", sa.Float(), nullable=False),
        sa.Column("problem", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("report", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["treatment_runs.id"], name="fk_treatment_allocations_run_id_treatment_runs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_treatment_allocations"),
        sa.UniqueConstraint("run_id", "tenant_id", "number", name="uq_treatment_allocations_run_id_tenant_id_number"),
    )
    op.create_table(
        "treatment_chunks",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("after_id", sa.String(length=64), nullable=False),
        sa.Column("until_id", sa.String(length=64), nullable=False),
        sa.Column("customers", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("alone", sa.Boolean(), nullable=False),
        sa.Column("trying", sa.String(length=64), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["treatment_runs.id"], name="fk_treatment_chunks_run_id_treatment_runs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_treatment_chunks"),
        sa.UniqueConstraint("tenant_id", "run_id", "number", name="uq_treatment_chunks_tenant_id_run_id_number"),
    )
    op.create_index("ix_treatment_chunks_state", "treatment_chunks", ["run_id", "tenant_id", "state"], unique=False)

    op.create_table(
        "treatment_events",
        sa.Column("customer_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("channel", sa.String(length=40), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["treatment_customers.id"],
            name="fk_treatment_events_customer_id_treatment_customers",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_treatment_events"),
        sa.UniqueConstraint("tenant_id", "customer_id", "key", name="uq_treatment_events_tenant_id_customer_id_key"),
    )
    op.create_index("ix_treatment_events_time", "treatment_events", ["tenant_id", "customer_id", "at"], unique=False)
    op.create_index("ix_treatment_events_deletion", "treatment_events", ["customer_id"], unique=False)

    op.create_table(
        "treatment_outcomes",
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("customer_id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("treatment", sa.String(length=40), nullable=False),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("value_micros", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["treatment_customers.id"],
            name="fk_treatment_outcomes_customer_id_treatment_customers",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_treatment_outcomes"),
        sa.UniqueConstraint("tenant_id", "key", name="uq_treatment_outcomes_tenant_id_key"),
    )
    op.create_index(
        "ix_treatment_outcomes_customer", "treatment_outcomes", ["tenant_id", "customer_id", "at"], unique=False
    )
    op.create_index("ix_treatment_outcomes_deletion", "treatment_outcomes", ["customer_id"], unique=False)
    op.create_index("ix_treatment_outcomes_day", "treatment_outcomes", ["tenant_id", "treatment", "at"], unique=False)
    op.create_index(
        "ix_treatment_outcomes_run", "treatment_outcomes", ["tenant_id", "run_id", "customer_id"], unique=False
    )

    op.create_table(
        "treatment_reservations",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("treatment", sa.String(length=40), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("customer_id", sa.String(length=64), nullable=True),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("allocation_id", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("note", sa.String(length=200), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["treatment_customers.id"],
            name="fk_treatment_reservations_customer_id_treatment_customers",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_treatment_reservations"),
        sa.UniqueConstraint("tenant_id", "key", name="uq_treatment_reservations_tenant_id_key"),
    )
    op.create_index(
        "ix_treatment_reservations_customer",
        "treatment_reservations",
        ["tenant_id", "customer_id", "day"],
        unique=False,
    )
    op.create_index("ix_treatment_reservations_deletion", "treatment_reservations", ["customer_id"], unique=False)
    op.create_index(
        "ix_treatment_reservations_day",
        "treatment_reservations",
        ["tenant_id", "treatment", "day", "state"],
        unique=False,
    )
    op.create_index("ix_treatment_reservations_expiry", "treatment_reservations", ["state", "expires_at"], unique=False)
    op.create_index(
        "ix_treatment_reservations_run",
        "treatment_reservations",
        ["tenant_id", "run_id", "state", "customer_id"],
        unique=False,
    )

    op.create_table(
        "treatment_results",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("customer_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("fair_group", sa.String(length=60), nullable=False),
        sa.Column("treatment", sa.String(length=40), nullable=False),
        sa.Column("net_micros", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("options", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("seen", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("answer_id", sa.String(length=64), nullable=True),
        sa.Column("allocation_id", sa.String(length=64), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["treatment_customers.id"],
            name="fk_treatment_results_customer_id_treatment_customers",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["treatment_runs.id"], name="fk_treatment_results_run_id_treatment_runs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_treatment_results"),
        sa.UniqueConstraint(
            "tenant_id", "run_id", "customer_id", name="uq_treatment_results_tenant_id_run_id_customer_id"
        ),
    )
    op.create_index("ix_treatment_results_customer", "treatment_results", ["tenant_id", "customer_id"], unique=False)
    op.create_index("ix_treatment_results_deletion", "treatment_results", ["customer_id"], unique=False)
    op.create_index("ix_treatment_results_answer", "treatment_results", ["tenant_id", "answer_id"], unique=False)
    op.create_index(
        "ix_treatment_results_state", "treatment_results", ["run_id", "tenant_id", "state", "net_micros"], unique=False
    )

    op.create_table(
        "treatment_run_members",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("customer_id", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["treatment_customers.id"],
            name="fk_treatment_run_members_customer_id_treatment_customers",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["treatment_runs.id"], name="fk_treatment_run_members_run_id_treatment_runs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_treatment_run_members"),
        sa.UniqueConstraint(
            "run_id", "tenant_id", "customer_id", name="uq_treatment_run_members_run_id_tenant_id_customer_id"
        ),
    )
    op.create_index("ix_treatment_run_members_deletion", "treatment_run_members", ["customer_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_treatment_run_members_deletion", table_name="treatment_run_members")
    op.drop_table("treatment_run_members")
    op.drop_index("ix_treatment_results_state", table_name="treatment_results")
    op.drop_index("ix_treatment_results_answer", table_name="treatment_results")
    op.drop_index("ix_treatment_results_deletion", table_name="treatment_results")
    op.drop_index("ix_treatment_results_customer", table_name="treatment_results")

    op.drop_table("treatment_results")
    op.drop_index("ix_treatment_reservations_run", table_name="treatment_reservations")
    op.drop_index("ix_treatment_reservations_expiry", table_name="treatment_reservations")
    op.drop_index("ix_treatment_reservations_day", table_name="treatment_reservations")
    op.drop_index("ix_treatment_reservations_deletion", table_name="treatment_reservations")
    op.drop_index("ix_treatment_reservations_customer", table_name="treatment_reservations")

    op.drop_table("treatment_reservations")
    op.drop_index("ix_treatment_outcomes_run", table_name="treatment_outcomes")
    op.drop_index("ix_treatment_outcomes_day", table_name="treatment_outcomes")
    op.drop_index("ix_treatment_outcomes_deletion", table_name="treatment_outcomes")
    op.drop_index("ix_treatment_outcomes_customer", table_name="treatment_outcomes")

    op.drop_table("treatment_outcomes")
    op.drop_index("ix_treatment_events_deletion", table_name="treatment_events")
    op.drop_index("ix_treatment_events_time", table_name="treatment_events")

    op.drop_table("treatment_events")
    op.drop_index("ix_treatment_chunks_state", table_name="treatment_chunks")

    op.drop_table("treatment_chunks")
    op.drop_table("treatment_allocations")
    op.drop_table("team_tasks")
    op.drop_index("ix_team_health_scores_client", table_name="team_health_scores")

    op.drop_table("team_health_scores")
    op.drop_index("ix_team_client_signals_time", table_name="team_client_signals")

    op.drop_table("team_client_signals")
    op.drop_index("ix_treatment_runs_state", table_name="treatment_runs")

    op.drop_table("treatment_runs")
    op.drop_index("ix_treatment_customers_segment", table_name="treatment_customers")
    op.drop_index("ix_treatment_customers_order", table_name="treatment_customers")
    op.drop_index("ix_treatment_customers_email", table_name="treatment_customers")

    op.drop_table("treatment_customers")
    op.drop_table("treatment_catalogues")
    op.drop_table("treatment_cases")
    op.drop_table("treatment_capacity")
    op.drop_index("ix_treatment_answers_age", table_name="treatment_answers")

    op.drop_table("treatment_answers")
    op.drop_index("ix_team_questions_asked", table_name="team_questions")

    op.drop_table("team_questions")
    op.drop_index("ix_team_clients_email", table_name="team_clients")

    op.drop_table("team_clients")
    op.drop_table("context_records")
