"""What other agents may do with leads (by MCP): look them up, and hand a new one in."""

from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.agent.tools import Effect, Tool, ToolContext
from app.packs.leads.models import LeadStatus
from app.packs.leads.repository import LeadRepository
from app.packs.leads.schemas import LeadDetail, LeadIn
from app.packs.leads.service import LeadFilter, LeadService
from app.storage.db import Database

MOST_FOUND: Final = 5
LAST_MESSAGES: Final = 10
LONGEST_BODY: Final = 2_000


class FindArgs(BaseModel):
    """One of the three."""

    model_config = ConfigDict(extra="forbid")

    lead_id: str | None = Field(None, max_length=64)
    email: str | None = Field(None, max_length=320, description="Exactly as the lead wrote it.")
    external_id: str | None = Field(None, max_length=200, description="The id that the tenant itself gave the lead.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.lead_id, self.email, self.external_id)) != 1:
            raise ValueError("give one of lead_id, email and external_id")
        return self


class ListArgs(BaseModel):
    model_config = ConfigDict(extra="forbid")

    status: LeadStatus | None = None
    limit: int = Field(20, ge=1, le=50)


def build_agent_tools(db: Database, service: LeadService) -> tuple[Tool, ...]:
    return (_find(db, service), _list(db, service), _submit(db, service))


def _find(db: Database, service: LeadService) -> Tool:
    async def run(context: ToolContext, args: FindArgs) -> dict[str, Any]:
        async with db.reading(context.principal.tenant_id) as session:
            ids = await _ids(LeadRepository(session, context.principal.tenant_id), args)
            found = [await service.detail(session, context.principal, lead_id) for lead_id in ids]
        return {"leads": [_told(lead) for lead in found]}

    what = (
        f"Find a lead by its id, its e-mail address or the tenant's own id: status, score, the last {LAST_MESSAGES} "
        f"messages, timeline and the ids of its decisions; at most {MOST_FOUND} leads, newest first."
    )
    return Tool("find_lead", what, FindArgs, run, Effect.READ, timeout_s=5, for_agents=True)


def _list(db: Database, service: LeadService) -> Tool:
    async def run(context: ToolContext, args: ListArgs) -> dict[str, Any]:
        async with db.reading(context.principal.tenant_id) as session:
            page = await service.page(session, context.principal, LeadFilter(args.status), None, args.limit)
        return {"leads": [lead.model_dump(mode="json", exclude={"attributes"}) for lead in page.items]}

    what = "List the newest leads, of one status where given."
    return Tool("list_leads", what, ListArgs, run, Effect.READ, timeout_s=5, for_agents=True)


def _submit(db: Database, service: LeadService) -> Tool:
    async def run(context: ToolContext, args: LeadIn) -> dict[str, Any]:
        # By the call's own key where the tenant has none: a repeat after a crash finds what the first one stored.
        body = args if args.external_id is not None else args.model_copy(update={"external_id": context.key})
        async with db.transaction(context.principal.tenant_id) as session:
            leads = LeadRepository(session, context.principal.tenant_id)
            known = await leads.by_external_id(body.external_id or "")
            if known is not None:
                return {"lead_id": known.id, "status": known.status, "new": False}
            accepted = await service.create(session, context.principal, body)
        return {"lead_id": accepted.lead.id, "status": accepted.lead.status, "new": True}

    what = (
        "Hand in a new lead: a person who wrote to the company. It is stored and decided upon; ask for it with "
        "find_lead. One whose external_id is known is not stored again."
    )
    return Tool("submit_lead", what, LeadIn, run, Effect.WRITE, idempotent=True, for_agents=True)


async def _ids(leads: LeadRepository, args: FindArgs) -> list[str]:
    if args.lead_id is not None:
        return [args.lead_id]
    if args.external_id is not None:
        known = await leads.by_external_id(args.external_id)
        return [known.id] if known is not None else []
    page = await leads.page(*LeadFilter(email=args.email).conditions(), limit=MOST_FOUND)
    return [lead.id for lead in page.items]


def _told(lead: LeadDetail) -> dict[str, Any]:
    """Within what a result may hold."""
    row = lead.model_dump(mode="json")
    row["messages"] = [
        {**message, "body": message["body"][:LONGEST_BODY]} for message in row["messages"][-LAST_MESSAGES:]
    ]
    row["timeline"] = [{"at": event["created_at"], "what": event["summary"]} for event in row["timeline"][-20:]]
    return row
