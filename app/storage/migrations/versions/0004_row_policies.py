"""row policies"""

from collections.abc import Sequence

from app.storage.migrations.policies import protect, unprotect

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
# Programs before it do not say whose a transaction is, and would see no row.
oldest_program: str = "0004"

TABLES = (
    "answer_feedback",
    "api_keys",
    "approvals",
    "audit_entries",
    "audit_heads",
    "booking_cells",
    "bookings",
    "bots",
    "budget_leases",
    "chunks",
    "claims",
    "claims_members",
    "claims_policies",
    "context_records",
    "crm_contacts",
    "crm_notes",
    "crm_writes",
    "decisions",
    "document_uploads",
    "documents",
    "effects",
    "experiments",
    "idempotency_keys",
    "knowledge_generations",
    "knowledge_indexes",
    "knowledge_questions",
    "lead_events",
    "lead_feedback",
    "lead_messages",
    "lead_outcomes",
    "lead_score_models",
    "leads",
    "outbox",
    "person_erasures",
    "policies",
    "team_client_signals",
    "team_clients",
    "team_health_scores",
    "team_questions",
    "team_tasks",
    "tenant_tools",
    "tenant_usage",
    "treatment_allocations",
    "treatment_answers",
    "treatment_capacity",
    "treatment_cases",
    "treatment_catalogues",
    "treatment_chunks",
    "treatment_customers",
    "treatment_events",
    "treatment_outcomes",
    "treatment_reservations",
    "treatment_results",
    "treatment_run_members",
    "treatment_runs",
)


def upgrade() -> None:
    protect(TABLES)


def downgrade() -> None:
    unprotect(TABLES)
