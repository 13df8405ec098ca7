"""Rows of clients, of what is known of them, and of their scores; a tenant's own."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, ScalarSelect, delete, exists, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import aliased

from app.packs.teams.health import MONTH, WINDOW, HealthState, Signal
from app.packs.teams.models import Client, ClientSignal, HealthScore, SignalKind
from app.storage.repository import Page, TenantRepository

AT_ONCE: Final = 400
MOST_ACTIVITY: Final = 20_000
MOST_TICKETS: Final = 2_000
MOST_MESSAGES: Final = 300
_AROUND: Final = timedelta(days=7)
_TICKETS: Final = (SignalKind.TICKET_OPENED, SignalKind.TICKET_SOLVED)


class ClientRepository(TenantRepository[Client]):
    model, noun = Client, "client"

    async def named(self, reference: str) -> Client:
        """By its external id, else by ours. Raises NotFound."""
        found = await self.first(Client.external_id == reference) or await self.find(reference)
        if found is None:
            raise self.not_found(reference)
        return found

    async def called(self, text: str) -> Client:
        """As `named`, or by a name that is one client's alone, whatever its case. Raises NotFound."""
        found = await self.first(Client.external_id == text) or await self.find(text)
        if found is not None:
            return found
        name = text.strip()
        same = await self.all(or_(Client.name == name, func.lower(Client.name) == name.lower()), limit=2)
        if len(same) != 1:
            raise self.not_found(text)
        return same[0]

    async def by_external_id(self, external_ids: Sequence[str]) -> dict[str, Client]:
        found: dict[str, Client] = {}
        for start in range(0, len(external_ids), AT_ONCE):
            rows = await self.all(Client.external_id.in_(external_ids[start : start + AT_ONCE]))
            found |= {row.external_id: row for row in rows}
        return found

    async def in_state(self, state: HealthState | None, words: str, cursor: str | None, limit: int) -> Page[Client]:
        """Newest first; those whose newest score is in the state and whose name holds the words, where given."""
        where = self._named_like(words)
        if state is not None:
            where.append(self._of_newest_score("state") == state)
        return await self.page(*where, cursor=cursor, limit=limit)

    async def lowest(
        self, state: HealthState | None, words: str, limit: int
    ) -> Sequence[tuple[Client, HealthScore | None]]:
        """With their newest scores, the lowest first, those without one last; otherwise as `in_state`."""
        query = self.query(*self._named_like(words)).add_columns(HealthScore)
        query = query.outerjoin(HealthScore, HealthScore.id == self._of_newest_score("id"))
        if state is not None:
            query = query.where(HealthScore.state == state)
        order = (HealthScore.score.is_(None), HealthScore.score, Client.id)
        rows = (await self.session.execute(query.order_by(*order).limit(limit))).all()
        return [(client, score) for client, score in rows]

    def _of_newest_score(self, column: str) -> ScalarSelect[str]:
        """A column of a client's newest score, looked up for each client by itself: ids sort by time."""
        newest = aliased(HealthScore)
        own = (newest.tenant_id == self.tenant_id, newest.client_id == Client.id)
        found = select(getattr(newest, column)).where(*own).order_by(newest.id.desc()).limit(1)
        return found.correlate(Client).scalar_subquery()

    def _named_like(self, words: str) -> list[ColumnElement[bool]]:
        return [func.lower(Client.name).contains(words.lower(), autoescape=True)] if words else []


class SignalRepository(TenantRepository[ClientSignal]):
    model, noun = ClientSignal, "signal"

    async def add_new(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """How many were not there yet by their key; the others stay as they are."""
        if not rows:
            return 0
        dialect = postgresql if self.session.get_bind().dialect.name == "postgresql" else sqlite
        insert = dialect.insert(ClientSignal.__table__).on_conflict_do_nothing().returning(ClientSignal.id)
        # In one order, so that two imports at once do not wait for each other in a circle.
        ordered = sorted(rows, key=lambda row: (row["client_id"], row["key"]))
        own = [{**row, "tenant_id": self.tenant_id} for row in ordered]
        return len((await self.session.execute(insert, own)).all())

    async def forget_solved(self, client_id: str, source: str, open_refs: Collection[str]) -> None:
        """Takes back that these tickets were solved: the vendor has them open again."""
        solved = (ClientSignal.kind == SignalKind.TICKET_SOLVED, ClientSignal.source == source)
        own = (ClientSignal.tenant_id == self.tenant_id, ClientSignal.client_id == client_id)
        refs = sorted(open_refs)
        for start in range(0, len(refs), AT_ONCE):
            again = ClientSignal.ref.in_(refs[start : start + AT_ONCE])
            await self.session.execute(delete(ClientSignal).where(*own, *solved, again))

    async def activity(self, client_id: str, now: datetime) -> list[Signal]:
        """Of the windows of today and of a month ago, and the last one before."""
        kind = SignalKind.ACTIVITY
        query = (
            select(ClientSignal.at, ClientSignal.quantity)
            .where(*self._own(client_id), ClientSignal.kind == kind, ClientSignal.at <= now)
            .order_by(ClientSignal.at.desc())
        )
        since = now - WINDOW - MONTH
        recent = (await self.session.execute(query.where(ClientSignal.at > since).limit(MOST_ACTIVITY))).all()
        older = (await self.session.execute(query.where(ClientSignal.at <= since).limit(1))).all()
        return [Signal(kind, at, quantity) for at, quantity in [*recent, *older]]

    async def tickets(self, client_id: str, now: datetime) -> Sequence[ClientSignal]:
        """Of the windows of today and of a month ago, and those that are still open."""
        wanted = or_(ClientSignal.at > now - WINDOW - MONTH, self._never_solved(client_id))
        query = self.query(*self._own(client_id), ClientSignal.kind.in_(_TICKETS), wanted)
        return (await self.session.scalars(query.order_by(ClientSignal.at.desc()).limit(MOST_TICKETS))).all()

    async def open_tickets(self, client_id: str, limit: int) -> Sequence[ClientSignal]:
        """The openings of tickets that nothing solved since, the oldest first."""
        opened = (ClientSignal.kind == SignalKind.TICKET_OPENED, self._never_solved(client_id))
        query = self.query(*self._own(client_id), *opened)
        return (await self.session.scalars(query.order_by(ClientSignal.at).limit(limit))).all()

    def _never_solved(self, client_id: str) -> ColumnElement[bool]:
        solved = aliased(ClientSignal)
        own = (solved.tenant_id == self.tenant_id, solved.client_id == client_id)
        later = (solved.kind == SignalKind.TICKET_SOLVED, solved.ref == ClientSignal.ref, solved.at >= ClientSignal.at)
        return ~exists().where(*own, *later)

    async def newest(
        self, client_id: str, kinds: Collection[SignalKind], since: datetime, limit: int
    ) -> Sequence[ClientSignal]:
        query = self.query(*self._own(client_id), ClientSignal.kind.in_(kinds), ClientSignal.at > since)
        return (await self.session.scalars(query.order_by(ClientSignal.at.desc()).limit(limit))).all()

    def _own(self, client_id: str) -> tuple[ColumnElement[bool], ...]:
        return (ClientSignal.tenant_id == self.tenant_id, ClientSignal.client_id == client_id)


class ScoreRepository(TenantRepository[HealthScore]):
    model, noun = HealthScore, "score"

    async def latest(self, client_ids: Sequence[str]) -> dict[str, HealthScore]:
        """The newest score of each client that has one; at most 400 clients."""
        newest = (
            select(func.max(HealthScore.id))
            .where(HealthScore.tenant_id == self.tenant_id, HealthScore.client_id.in_(client_ids))
            .group_by(HealthScore.client_id)
        )
        return {row.client_id: row for row in await self.all(HealthScore.id.in_(newest))}

    async def month_before(self, score: HealthScore) -> HealthScore | None:
        """The score nearest to 30 days before this one, within a week of it, by the same rules."""
        wanted = score.at - MONTH
        near = HealthScore.at.between(wanted - _AROUND, wanted + _AROUND)
        rows = await self.all(
            HealthScore.client_id == score.client_id, HealthScore.method == score.method, near, limit=AT_ONCE
        )
        return min(rows, key=lambda row: abs(row.at - wanted), default=None)

    async def since(self, client_id: str, moment: datetime) -> bool:
        """Whether the client has a score from then on."""
        return await self.first(HealthScore.client_id == client_id, HealthScore.at >= moment) is not None
