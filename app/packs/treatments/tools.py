"""What other agents may ask of treatments (by MCP): what was decided for a customer and why, how far a run is."""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from app.agent.tools import Effect, Tool, ToolContext
from app.packs.treatments.runs import RunService
from app.packs.treatments.schemas_story import DecisionTold
from app.packs.treatments.story import Stories
from app.storage.db import Database

MOST_DECISIONS: Final = 5
MOST_OTHERS: Final = 10
_OF_RESULT: Final = {"state", "treatment", "reason", "net_usd", "options", "seen", "decided_at"}
_OF_ALLOCATION: Final = {"number", "day", "method", "feasible", "gap", "value_usd", "score_usd", "bound_usd"}
_OF_ANSWER: Final = {"model", "provider", "prompt_version", "catalogue_version", "asked_at"}


class DecisionArgs(BaseModel):
    model_config = ConfigDict(extra="forbid")

    customer: str = Field(min_length=1, max_length=128, description="The tenant's own id of the customer.")
    decisions: int = Field(1, ge=1, le=MOST_DECISIONS, description="How many, newest first.")


class RunArgs(BaseModel):
    model_config = ConfigDict(extra="forbid")

    run_id: str = Field(min_length=1, max_length=64)


def build_tools(db: Database, runs: RunService, stories: Stories) -> tuple[Tool, ...]:
    return (_decision(stories), _run(db, runs))


def _decision(stories: Stories) -> Tool:
    async def run(context: ToolContext, args: DecisionArgs) -> dict[str, Any]:
        story = await stories.of(context.principal, args.customer)
        return {
            "customer": story.external_id,
            "segment": story.segment,
            "decisions_total": story.decisions_total,
            "decisions": [_told(decision) for decision in story.decisions[: args.decisions]],
            "reservations": [row.model_dump(mode="json") for row in story.reservations[:MOST_OTHERS]],
            "outcomes": [row.model_dump(mode="json") for row in story.outcomes[:MOST_OTHERS]],
        }

    what = (
        "What was decided for a customer and why: the treatment, its reason and expected net value, the options, what "
        "was seen of the customer, how it was allocated or where they wait in the queue, and what came of it."
    )
    return Tool("treatment_decision", what, DecisionArgs, run, Effect.READ, for_agents=True)


def _run(db: Database, runs: RunService) -> Tool:
    async def run(context: ToolContext, args: RunArgs) -> dict[str, Any]:
        async with db.reading(context.principal.tenant_id) as session:
            found = await runs.get(session, context.principal, args.run_id)
        return found.model_dump(mode="json")

    what = "The state of a run over customers: progress, rate, cost so far, time left, and why it pauses."
    return Tool("treatment_run", what, RunArgs, run, Effect.READ, timeout_s=5, for_agents=True)


def _told(decision: DecisionTold) -> dict[str, Any]:
    return decision.model_dump(
        mode="json",
        include={
            "run": {"id", "state", "created_at"},
            "result": _OF_RESULT,
            "answer": _OF_ANSWER,
            "allocation": _OF_ALLOCATION,
            "queue_position": True,
        },
    )
