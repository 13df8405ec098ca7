"""Clients: put in with their signals, read with their scores, scored now, deleted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import InvalidInput, NotFound
from app.ids import new_id
from app.pack import Kit
from app.packs.teams.client_repository import ClientRepository, ScoreRepository, SignalRepository
from app.packs.teams.client_schemas import (
    Changes,
    ClientDetail,
    ClientIn,
    ClientOut,
    ClientPage,
    ClientReport,
    HealthOut,
    HistoryPage,
    SignalIn,
    scores_out,
)
from app.packs.teams.health import HealthState
from app.packs.teams.models import Client, HealthScore
from app.packs.teams.new_signals import GIVEN, NewSignal
from app.packs.teams.scoring import Scoring
from app.principal import Principal, Role

_EMPTY = {"email": "", "crm_id": "", "repository": ""}


class ClientService:
    def __init__(self, kit: Kit, scoring: Scoring) -> None:
        self._db = kit.ports.db
        self._clock = kit.ports.clock
        self._audit = kit.audit
        self._scoring = scoring

    async def put(self, principal: Principal, given: Sequence[ClientIn]) -> ClientReport:
        """All of them or none; the same again changes nothing.

        Raises Forbidden below the role 'admin', InvalidInput for a client that is given twice or new without a name.
        """
        principal.require(Role.ADMIN)
        _refuse_twice(given)
        async with self._db.transaction(principal.tenant_id) as session:
            report = await self._put(session, principal.tenant_id, given)
            counts = report.clients.model_dump() | report.model_dump(exclude={"clients"})
            await self._audit.record(session, principal, "teams.clients_put", "clients", counts)
        return report

    async def _put(self, session: AsyncSession, tenant_id: str, given: Sequence[ClientIn]) -> ClientReport:
        now, rows = self._clock(), ClientRepository(session, tenant_id)
        new = await self._insert_new(session, rows, given, now)
        known = await rows.by_external_id([one.external_id for one in given])
        counts = Changes(new=len(new))
        for one in given:
            if one.external_id not in new:
                _count(counts, _set(known[one.external_id], one.changes(), now))
        await session.flush()
        signals = [
            _new_signal(signal).row(known[one.external_id].id, GIVEN, now) for one in given for signal in one.signals
        ]
        added = await SignalRepository(session, tenant_id).add_new(signals)
        return ClientReport(clients=counts, new_signals=added, known_signals=len(signals) - added)

    async def _insert_new(
        self, session: AsyncSession, rows: ClientRepository, given: Sequence[ClientIn], now: datetime
    ) -> set[str]:
        """Adds the clients that are not there, and gives the external ids of those that another import did not add
        meanwhile."""
        known = await rows.by_external_id([one.external_id for one in given])
        missing = [one for one in given if one.external_id not in known]
        nameless = next((one.external_id for one in missing if not one.name), None)
        if nameless is not None:
            raise InvalidInput(f"The client '{nameless}' is new: give its 'name'.")
        dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
        added: set[str] = set()
        # In one order, so that two imports at once do not wait for each other in a circle.
        for one in sorted(missing, key=lambda client: client.external_id):
            own = {"id": new_id("client"), "tenant_id": rows.tenant_id, "created_at": now, "updated_at": now}
            values = own | _EMPTY | {"attributes": {}, "external_id": one.external_id} | one.changes()
            insert = dialect.insert(Client).values(**values).on_conflict_do_nothing()
            added |= set(await session.scalars(insert.returning(Client.external_id)))
        return added

    async def page(
        self, principal: Principal, state: HealthState | None, words: str, cursor: str | None, limit: int
    ) -> ClientPage:
        async with self._db.reading(principal.tenant_id) as session:
            found = await ClientRepository(session, principal.tenant_id).in_state(state, words, cursor, limit)
            scores = await ScoreRepository(session, principal.tenant_id).latest([row.id for row in found.items])
        items = [ClientOut.of(row, scores.get(row.id)) for row in found.items]
        return ClientPage(items=items, next_cursor=found.next_cursor)

    async def one(self, principal: Principal, reference: str) -> ClientDetail:
        """The newest score factor by factor, and its trend. Raises NotFound."""
        async with self._db.reading(principal.tenant_id) as session:
            client = await ClientRepository(session, principal.tenant_id).named(reference)
            return await detail(session, client)

    async def history(self, principal: Principal, reference: str, cursor: str | None, limit: int) -> HistoryPage:
        """Raises NotFound."""
        async with self._db.reading(principal.tenant_id) as session:
            client = await ClientRepository(session, principal.tenant_id).named(reference)
            rows = ScoreRepository(session, principal.tenant_id)
            found = await rows.page(HealthScore.client_id == client.id, cursor=cursor, limit=limit)
        return HistoryPage(items=scores_out(found.items), next_cursor=found.next_cursor)

    async def score(self, principal: Principal, reference: str, *, sync: bool = True) -> HealthOut:
        """Scores the client now, after asking the vendors for news where `sync`.

        Raises Forbidden below the role 'agent', NotFound, also where nothing is known that a score could rest on.
        """
        principal.require(Role.AGENT)
        async with self._db.reading(principal.tenant_id) as session:
            client = await ClientRepository(session, principal.tenant_id).named(reference)
        row = await self._scoring.score(principal, client, sync=sync)
        if row is None:
            raise NotFound(f"Nothing is known of the client '{reference[:80]}' to score: put in some of its signals.")
        async with self._db.reading(principal.tenant_id) as session:
            then = await ScoreRepository(session, principal.tenant_id).month_before(row)
        return HealthOut.explained(row, then)

    async def delete(self, principal: Principal, reference: str) -> None:
        """With its signals and scores. Raises Forbidden below the role 'admin', NotFound."""
        principal.require(Role.ADMIN)
        async with self._db.transaction(principal.tenant_id) as session:
            client = await ClientRepository(session, principal.tenant_id).named(reference)
            await session.execute(delete(Client).where(Client.tenant_id == principal.tenant_id, Client.id == client.id))
            await self._audit.record(session, principal, "teams.client_deleted", client.id, {})


async def detail(session: AsyncSession, client: Client) -> ClientDetail:
    """A client with its newest score explained."""
    scores = ScoreRepository(session, client.tenant_id)
    score = (await scores.latest([client.id])).get(client.id)
    then = await scores.month_before(score) if score is not None else None
    return ClientDetail.explained(client, score, then)


def _new_signal(given: SignalIn) -> NewSignal:
    priority = given.priority.value if given.priority else ""
    return NewSignal(given.key, given.kind, given.at, given.quantity, given.ref, priority, given.text)


def _set(row: Client, fields: dict[str, Any], now: datetime) -> bool:
    changed = {name: value for name, value in fields.items() if getattr(row, name) != value}
    for name, value in changed.items():
        setattr(row, name, value)
    if changed:
        row.updated_at = now
    return bool(changed)


def _count(counts: Changes, changed: bool) -> None:
    if changed:
        counts.changed += 1
    else:
        counts.unchanged += 1


def _refuse_twice(given: Sequence[ClientIn]) -> None:
    seen: set[str] = set()
    for one in given:
        if one.external_id in seen:
            raise InvalidInput(f"The client '{one.external_id}' is in the body twice: send it once.")
        seen.add(one.external_id)
