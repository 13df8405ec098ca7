"""What team members may look up of clients. All of it reads; the tenant is the call's, never an argument.

What a client, the CRM or the code's host says was written by others: the members' prompts treat it as data. A
repository is read only where a client of the tenant names it, so that nobody reads another's with the host's token.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from app.agent.tools import Effect, Tool, ToolContext
from app.integrations.base import Account, CodeActivity, CodeItem, CodeKind
from app.integrations.wire import clipped
from app.pack import Ports
from app.packs.teams.client_repository import ClientRepository, ScoreRepository, SignalRepository
from app.packs.teams.client_schemas import HealthHead, SignalOut
from app.packs.teams.clients import detail
from app.packs.teams.health import HealthState
from app.packs.teams.models import Client, ClientSignal, HealthScore, SignalKind
from app.packs.teams.sentiment import SentimentLexicon
from app.storage.db import Database

CLIENT_LIST = "client_list"
CLIENT_HEALTH = "client_health"
CLIENT_SIGNALS = "client_signals"
ACCOUNT_CONTEXT = "account_context"
CODE_ACTIVITY = "code_activity"
MOST_CLIENTS: Final = 50
MOST_SCORES: Final = 12
MOST_SIGNALS: Final = 30
MOST_ROWS: Final = 10
"""Of each kind that a vendor tells of."""
MOST_WORDS: Final = 400
_VENDOR_S: Final = 30.0


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ListArgs(_Args):
    state: HealthState | None = Field(None, description="Only clients whose newest score is in this state.")
    name: str = Field("", max_length=200, description="Words that the client's name holds.")
    limit: int = Field(20, ge=1, le=MOST_CLIENTS)


class ClientArgs(_Args):
    client: str = Field(min_length=1, max_length=200, description="The client's id, external id or exact name.")


class SignalsArgs(ClientArgs):
    kind: SignalKind | None = Field(None, description="One kind; tickets and messages where left out.")
    days: int = Field(90, ge=1, le=730, description="How far back.")


class CodeArgs(ClientArgs):
    days: int = Field(30, ge=1, le=365, description="How far back.")


def build_client_tools(ports: Ports, lexicon: SentimentLexicon) -> tuple[Tool, ...]:
    return (_list(ports), _health(ports), _signals(ports, lexicon), _account(ports), _code(ports))


def _list(ports: Ports) -> Tool:
    async def run(context: ToolContext, args: ListArgs) -> dict[str, Any]:
        async with ports.db.reading(context.principal.tenant_id) as session:
            rows = ClientRepository(session, context.principal.tenant_id)
            found = await rows.lowest(args.state, args.name, args.limit + 1)
        return {"clients": [_row(*pair) for pair in found[: args.limit]], "more": len(found) > args.limit}

    what = (
        f"Clients with their newest health score, the lowest first; at most {MOST_CLIENTS}, 'more' says whether there "
        "are others. A score is 0 to 100: healthy from 70, watch from 40, at_risk below."
    )
    return Tool(CLIENT_LIST, what, ListArgs, run, Effect.READ, timeout_s=5, for_agents=True)


def _row(client: Client, score: HealthScore | None) -> dict[str, Any]:
    head = None if score is None else HealthHead.of(score)
    return {
        "id": client.external_id,
        "name": client.name,
        "score": None if head is None else head.score,
        "state": "unknown" if head is None else head.state.value,
        "scored_at": None if head is None else head.at.isoformat(),
    }


def _health(ports: Ports) -> Tool:
    async def run(context: ToolContext, args: ClientArgs) -> dict[str, Any]:
        tenant_id = context.principal.tenant_id
        async with ports.db.reading(context.principal.tenant_id) as session:
            client = await ClientRepository(session, tenant_id).called(args.client)
            found = await detail(session, client)
            page = await ScoreRepository(session, tenant_id).page(HealthScore.client_id == client.id, limit=MOST_SCORES)
        history = [HealthHead.of(row).model_dump(mode="json") for row in page.items]
        health = None if found.health is None else found.health.model_dump(mode="json")
        return {"client": client.name, "id": client.external_id, "health": health, "history": history}

    what = (
        "A client's newest health score factor by factor (points sum to the score, with a sentence of figures each), "
        f"its trend against a month ago, what it could not see ('notes'), and its last {MOST_SCORES} scores."
    )
    return Tool(CLIENT_HEALTH, what, ClientArgs, run, Effect.READ, timeout_s=5, for_agents=True)


def _signals(ports: Ports, lexicon: SentimentLexicon) -> Tool:
    async def run(context: ToolContext, args: SignalsArgs) -> dict[str, Any]:
        kinds = [args.kind] if args.kind else [kind for kind in SignalKind if kind is not SignalKind.ACTIVITY]
        since = ports.clock() - timedelta(days=args.days)
        async with ports.db.reading(context.principal.tenant_id) as session:
            client = await ClientRepository(session, context.principal.tenant_id).called(args.client)
            signals = SignalRepository(session, client.tenant_id)
            rows = await signals.newest(client.id, kinds, since, MOST_SIGNALS + 1)
            waiting = await signals.open_tickets(client.id, MOST_SIGNALS)
        shown = await asyncio.to_thread(_shown, rows[:MOST_SIGNALS], lexicon)
        tickets = [_ticket(row, ports.clock()) for row in waiting]
        return {"client": client.name, "open_tickets": tickets, "signals": shown, "more": len(rows) > MOST_SIGNALS}

    what = (
        f"A client's open tickets, the oldest first, and its last {MOST_SIGNALS} tickets (opened, solved; joined by "
        "'ref') and messages, newest first. 'mood' is how a message sounds by a list of words, not by a model."
    )
    return Tool(CLIENT_SIGNALS, what, SignalsArgs, run, Effect.READ, timeout_s=5)


def _ticket(row: ClientSignal, now: datetime) -> dict[str, Any]:
    days = (now - row.at).days
    known = {"ref": row.ref, "text": clipped(row.text, MOST_WORDS), "priority": row.priority}
    return _plain(known | {"opened_at": row.at}) | {"days_open": days}


def _shown(rows: Sequence[ClientSignal], lexicon: SentimentLexicon) -> list[dict[str, Any]]:
    said = [lexicon.judge(row.text) if row.kind == SignalKind.MESSAGE else None for row in rows]
    shown = [SignalOut.of(row, clipped(row.text, MOST_WORDS), mood) for row, mood in zip(rows, said, strict=True)]
    return [one.model_dump(mode="json", exclude_none=True) for one in shown]


def _account(ports: Ports) -> Tool:
    async def run(context: ToolContext, args: ClientArgs) -> dict[str, Any]:
        client = await _client(ports.db, context, args.client)
        if not client.crm_id:
            return {"client": client.name, "problem": "The client has no 'crm_id': nobody said who it is in the CRM."}
        account = await ports.accounts.account(client.tenant_id, client.crm_id)
        return {"client": client.name, "source": ports.accounts.name, **_account_rows(account)}

    what = (
        f"What the CRM has on a client: the company, and its newest {MOST_ROWS} deals, tickets and notes each. "
        "'cut' says that there is more."
    )
    return Tool(ACCOUNT_CONTEXT, what, ClientArgs, run, Effect.READ, timeout_s=_VENDOR_S, attempts=1)


def _account_rows(account: Account) -> dict[str, Any]:
    known = asdict(account)
    groups = {name: known[name] for name in ("deals", "tickets", "notes")}
    rows = {name: [_plain(one) for one in found[:MOST_ROWS]] for name, found in groups.items()}
    cut = account.cut or any(len(found) > MOST_ROWS for found in groups.values())
    return {"company": _plain(known["company"]), **rows, "cut": cut}


def _code(ports: Ports) -> Tool:
    async def run(context: ToolContext, args: CodeArgs) -> dict[str, Any]:
        client = await _client(ports.db, context, args.client)
        if not client.repository:
            return {"client": client.name, "problem": "The client has no 'repository': nobody said where its code is."}
        since = ports.clock() - timedelta(days=args.days)
        activity = await ports.code.activity(client.tenant_id, client.repository, since)
        return {"client": client.name, "source": ports.code.name, **_code_rows(activity)}

    what = (
        f"What happened in a client's code repository: the newest {MOST_ROWS} issues, pull requests, commits and "
        "releases each, and how many there were. 'cut' says that there were more than were counted."
    )
    return Tool(CODE_ACTIVITY, what, CodeArgs, run, Effect.READ, timeout_s=_VENDOR_S, attempts=1)


def _code_rows(activity: CodeActivity) -> dict[str, Any]:
    kinds: dict[CodeKind, list[CodeItem]] = {kind: [] for kind in CodeKind}
    for item in activity.items:
        kinds[item.kind].append(item)
    rows = [_plain(asdict(item)) for found in kinds.values() for item in found[:MOST_ROWS]]
    counts = {kind.value: len(found) for kind, found in kinds.items()}
    return {"repository": activity.repository, "counts": counts, "items": rows, "cut": activity.cut}


async def _client(db: Database, context: ToolContext, named: str) -> Client:
    async with db.reading(context.principal.tenant_id) as session:
        return await ClientRepository(session, context.principal.tenant_id).called(named)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """JSON values, texts bounded; what is empty is left out."""
    return {name: _value(value) for name, value in values.items() if value not in ("", None, ())}


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_value(one) for one in value[:MOST_ROWS]]
    return clipped(value, MOST_WORDS) if isinstance(value, str) else value
