"""News of a client from the CRM and the host of its code, as signals. A vendor that is away fails its own part only.

From the CRM: a ticket's opening and closing, and a note as a message. From the code: an issue is a ticket, as it waits
for an answer like one; a pull request, a commit and a release are activity. A signal that is known by its key stays as
it is; a ticket that is open again loses its solving.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from app.clock import Clock
from app.errors import TrellisError
from app.integrations.base import Account, AccountContext, CodeActivity, CodeHost, CodeItem, CodeKind, Ticket
from app.integrations.errors import IntegrationError
from app.packs.teams.client_repository import SignalRepository
from app.packs.teams.health import MONTH, PRIORITIES, WINDOW
from app.packs.teams.models import Client, SignalKind
from app.packs.teams.new_signals import CODE, CRM, NewSignal
from app.storage.db import Database
from app.telemetry.metrics import Metrics

BEFORE: Final = "so this score rests on what was known before"
_LONGEST_KEY: Final = 128
_LABELS: Final = (
    ("urgent", ("urgent", "critical", "blocker", "p0")),
    ("high", ("high", "p1")),
    ("low", ("low", "minor", "p3", "p4")),
)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Outages:
    """Vendors that were found away in one round: nobody waits for them a second time."""

    found: set[tuple[str, str]] = field(default_factory=set)
    """Tenant and source."""


@dataclass(frozen=True, slots=True)
class News:
    """Signals of one source, and the tickets that are open there."""

    signals: tuple[NewSignal, ...]
    open_refs: frozenset[str]
    cut: bool


class Syncer:
    def __init__(self, db: Database, clock: Clock, metrics: Metrics, code: CodeHost, accounts: AccountContext) -> None:
        self._db = db
        self._clock = clock
        self._metrics = metrics
        self._code = code
        self._accounts = accounts

    async def sync(self, client: Client, outages: Outages) -> list[str]:
        """Stores what is new of the client; a sentence for each source that could not be read, or only in part."""
        notes: list[str] = []
        if client.crm_id:
            notes += await self._from(CRM, "The CRM", client, outages, self._crm_news)
        if client.repository:
            notes += await self._from(CODE, "The code's host", client, outages, self._code_news)
        return notes

    async def _from(
        self, source: str, what: str, client: Client, outages: Outages, read: Callable[[Client], Awaitable[News]]
    ) -> list[str]:
        place = (client.tenant_id, source)
        if place in outages.found:
            return [f"{what} was away when others were read, {BEFORE}."]
        try:
            news = await read(client)
        except TrellisError as error:
            if isinstance(error, IntegrationError) and error.retryable:
                outages.found.add(place)
            self._metrics.teams_syncs.labels(source=source, result="failed").inc()
            log.warning("teams.sync_failed", source=source, client_id=client.id, error=error.code)
            return [f"{what} could not be read, {BEFORE}: {error.detail}"]
        await self._store(client, source, news)
        self._metrics.teams_syncs.labels(source=source, result="done").inc()
        return [f"{what} has more on this client than was read: the newest counted."] if news.cut else []

    async def _store(self, client: Client, source: str, news: News) -> None:
        now = self._clock()
        rows = [signal.row(client.id, source, now) for signal in news.signals]
        async with self._db.transaction(client.tenant_id) as session:
            signals = SignalRepository(session, client.tenant_id)
            await signals.forget_solved(client.id, source, news.open_refs)
            await signals.add_new(rows)

    async def _crm_news(self, client: Client) -> News:
        return crm_news(await self._accounts.account(client.tenant_id, client.crm_id))

    async def _code_news(self, client: Client) -> News:
        since = self._clock() - WINDOW - MONTH
        return code_news(await self._code.activity(client.tenant_id, client.repository, since))


def crm_news(account: Account) -> News:
    notes = [NewSignal(_key(CRM, "note", one.id), SignalKind.MESSAGE, one.at, text=one.text) for one in account.notes]
    tickets = [signal for ticket in account.tickets for signal in _ticket(CRM, ticket)]
    return News((*notes, *tickets), _open_refs(CRM, account.tickets), account.cut)


def code_news(activity: CodeActivity) -> News:
    issues = [_as_ticket(item) for item in activity.items if item.kind is CodeKind.ISSUE]
    tickets = [signal for issue in issues for signal in _ticket(CODE, issue)]
    done = [
        NewSignal(_key(CODE, item.kind, item.id), SignalKind.ACTIVITY, item.at)
        for item in activity.items
        if item.kind is not CodeKind.ISSUE
    ]
    return News((*tickets, *done), _open_refs(CODE, issues), activity.cut)


def _ticket(source: str, ticket: Ticket) -> list[NewSignal]:
    ref = _key(source, "ticket", ticket.id)
    opened = NewSignal(
        _key(ref, "opened"),
        SignalKind.TICKET_OPENED,
        ticket.opened_at,
        ref=ref,
        priority=ticket.priority if ticket.priority in PRIORITIES else "",
        text=ticket.subject,
    )
    if ticket.closed_at is None:
        return [opened]
    key = _key(ref, f"{ticket.closed_at:%Y%m%dT%H%M%S}")
    return [opened, NewSignal(key, SignalKind.TICKET_SOLVED, ticket.closed_at, ref=ref)]


def _open_refs(source: str, tickets: Iterable[Ticket]) -> frozenset[str]:
    return frozenset(_key(source, "ticket", ticket.id) for ticket in tickets if ticket.closed_at is None)


def _as_ticket(issue: CodeItem) -> Ticket:
    return Ticket(issue.id, issue.title, issue.at, issue.closed_at, _priority(issue.labels))


def _priority(labels: Sequence[str]) -> str:
    words = " ".join(labels).lower()
    return next((level for level, signs in _LABELS if any(sign in words for sign in signs)), "")


def _key(*parts: str) -> str:
    """The parts joined; hashed where that is too long."""
    key = ":".join(parts)
    return key if len(key) <= _LONGEST_KEY else hashlib.sha256(key.encode()).hexdigest()
