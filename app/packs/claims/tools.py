"""What the assistant may look up. Whose records it reads is the signed-in user of the call, never an argument."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.agent.tools import Effect, Tool, ToolContext
from app.clock import Clock
from app.conversation.evidence import PASSAGES, passage_row
from app.knowledge.retrieve import Retriever
from app.packs.claims.repository import OwnRecords
from app.packs.claims.schemas import (
    BalanceOut,
    Balances,
    Benefit,
    ClaimDetail,
    ClaimOut,
    PolicyOut,
    State,
    Year,
    claim_filter,
    money,
)
from app.storage.db import Database

BOT = "claims"
POLICIES = "my_policies"
CLAIMS = "my_claims"
DETAILS = "claim_details"
BALANCE = "benefit_balance"
SEARCH = "claims_knowledge_search"
TOOLS = (POLICIES, CLAIMS, DETAILS, BALANCE, SEARCH)
MOST_CLAIMS = 20


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PoliciesArgs(_Args):
    pass


class ClaimsArgs(_Args):
    state: State | None = Field(None, description="A state, or 'open' for all that are not settled.")
    year: Year | None = Field(None, description="The year in which the cost was incurred.")


class DetailsArgs(_Args):
    number: str = Field(min_length=1, max_length=40, description="The claim's number.")


class BalanceArgs(_Args):
    benefit: Benefit | None = Field(None, description="One benefit, e.g. 'dental'; all where left out.")
    year: Year | None = Field(None, description="This year where left out.")


class SearchArgs(_Args):
    query: str = Field(min_length=1, max_length=500)


def build_tools(db: Database, retriever: Retriever, clock: Clock) -> tuple[Tool, ...]:
    return (_policies(db), _claims(db), _details(db), _balance(db, clock), _search(retriever))


def _policies(db: Database) -> Tool:
    async def run(context: ToolContext, _args: PoliciesArgs) -> dict[str, Any]:
        async with db.reading(context.principal.tenant_id) as session:
            found = await OwnRecords.of(session, context.principal).policies()
        return {"policies": [PolicyOut.of(policy).model_dump(mode="json") for policy in found]}

    what = "The policies of the person who asks: product, dates, and what each benefit pays a year."
    return Tool(POLICIES, what, PoliciesArgs, run, Effect.READ, timeout_s=5, for_users=True)


def _claims(db: Database) -> Tool:
    async def run(context: ToolContext, args: ClaimsArgs) -> dict[str, Any]:
        wanted = claim_filter(args.state, args.year)
        async with db.reading(context.principal.tenant_id) as session:
            own = OwnRecords.of(session, context.principal)
            found, totals = await own.claims(wanted, MOST_CLAIMS), await own.totals(wanted)
        return {
            "claims": [ClaimOut.of(claim, policy).model_dump(mode="json") for claim, policy in found],
            "count": sum(total.claims for total in totals),
            "claimed": [money(total.claimed, total.currency) for total in totals],
            "paid": [money(total.paid, total.currency) for total in totals],
        }

    what = (
        f"The claims of the person who asks, the {MOST_CLAIMS} last incurred first, by state and year where given; "
        "'count', 'claimed' and 'paid' are of all of them."
    )
    return Tool(CLAIMS, what, ClaimsArgs, run, Effect.READ, timeout_s=5, for_users=True)


def _details(db: Database) -> Tool:
    async def run(context: ToolContext, args: DetailsArgs) -> dict[str, Any]:
        async with db.reading(context.principal.tenant_id) as session:
            claim, policy = await OwnRecords.of(session, context.principal).claim(args.number)
        return ClaimDetail.of(claim, policy).model_dump(mode="json")

    what = "One claim of the person who asks, by its number: state, amounts, note of the case handler."
    return Tool(DETAILS, what, DetailsArgs, run, Effect.READ, timeout_s=5, for_users=True)


def _balance(db: Database, clock: Clock) -> Tool:
    async def run(context: ToolContext, args: BalanceArgs) -> dict[str, Any]:
        year = args.year or clock().year
        async with db.reading(context.principal.tenant_id) as session:
            found = await OwnRecords.of(session, context.principal).balances(year)
        rows = [BalanceOut.of(one) for one in found if args.benefit in (None, one.benefit)]
        return Balances(year=year, balances=rows).model_dump(mode="json")

    what = "What is left of each benefit's yearly limit for the person who asks: the limit less what was paid."
    return Tool(BALANCE, what, BalanceArgs, run, Effect.READ, timeout_s=5, for_users=True)


def _search(retriever: Retriever) -> Tool:
    async def run(context: ToolContext, args: SearchArgs) -> dict[str, Any]:
        who = context.principal
        found = await retriever.search(who.tenant_id, BOT, args.query, user=who.user)
        return {PASSAGES: [passage_row(passage) for passage in found]}

    what = "Search the insurer's pages: benefits, exclusions, how to claim, deadlines, contacts."
    return Tool(SEARCH, what, SearchArgs, run, Effect.READ, timeout_s=5, for_users=True)
