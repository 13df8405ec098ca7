"""Scores a client: its vendors' news, its signals, the rules, a row in its history."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from app.governance.audit import Audit
from app.ids import new_id
from app.pack import Kit
from app.packs.teams.client_repository import (
    MOST_ACTIVITY,
    MOST_MESSAGES,
    MOST_TICKETS,
    ScoreRepository,
    SignalRepository,
)
from app.packs.teams.health import MESSAGES, MONTH, Health, Signal, health_of
from app.packs.teams.models import Client, ClientSignal, HealthScore, SignalKind
from app.packs.teams.sentiment import SentimentLexicon
from app.packs.teams.syncing import Outages, Syncer
from app.principal import Principal

AFTERWARDS: Final = "Reckoned afterwards, from the signals that are dated before."


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store has of a client, and what it left out."""

    activity: Sequence[Signal]
    tickets: Sequence[ClientSignal]
    messages: Sequence[ClientSignal]

    @property
    def notes(self) -> list[str]:
        full = (
            ("activities", len(self.activity) >= MOST_ACTIVITY),
            ("tickets", len(self.tickets) >= MOST_TICKETS),
            ("messages", len(self.messages) >= MOST_MESSAGES),
        )
        return [f"There are more {name} than a score reads: the newest counted." for name, more in full if more]

    def signals(self, lexicon: SentimentLexicon) -> list[Signal]:
        """As the rules see them; messages whose words were erased are left out. Takes a millisecond a message."""
        tickets = [Signal(SignalKind(one.kind), one.at, ref=one.ref, priority=one.priority) for one in self.tickets]
        messages = [
            Signal(SignalKind.MESSAGE, one.at, mood=lexicon.judge(one.text).mood) for one in self.messages if one.text
        ]
        return [*self.activity, *tickets, *messages]


class Scoring:
    def __init__(self, kit: Kit, syncer: Syncer, lexicon: SentimentLexicon) -> None:
        self._db = kit.ports.db
        self._clock = kit.ports.clock
        self._audit: Audit = kit.audit
        self._metrics = kit.metrics
        self._syncer = syncer
        self._lexicon = lexicon

    async def score(
        self, principal: Principal, client: Client, *, sync: bool, outages: Outages | None = None
    ) -> HealthScore | None:
        """The new row of the client's history; None where nothing is known that a score could rest on.

        A client's first score brings the one of a month ago with it, where the signals reach back: so there is a trend.
        """
        notes = await self._syncer.sync(client, outages or Outages()) if sync else []
        now = self._clock()
        known = await self._known(client, now)
        signals = await asyncio.to_thread(known.signals, self._lexicon)
        health = health_of(signals, now)
        if health is None:
            return None
        earlier = health_of(signals, now - MONTH)
        return await self._store(principal, client, (health, earlier), now, [*notes, *known.notes])

    async def _known(self, client: Client, now: datetime) -> _Known:
        async with self._db.reading(client.tenant_id) as session:
            rows = SignalRepository(session, client.tenant_id)
            since = now - MESSAGES - MONTH
            return _Known(
                await rows.activity(client.id, now),
                await rows.tickets(client.id, now),
                await rows.newest(client.id, (SignalKind.MESSAGE,), since, MOST_MESSAGES),
            )

    async def _store(
        self,
        principal: Principal,
        client: Client,
        healths: tuple[Health, Health | None],
        now: datetime,
        notes: Sequence[str],
    ) -> HealthScore:
        health, earlier = healths
        async with self._db.transaction(principal.tenant_id) as session:
            rows = ScoreRepository(session, client.tenant_id)
            if earlier is not None and await rows.first(HealthScore.client_id == client.id) is None:
                rows.add(_row(client, earlier, now - MONTH, now, [AFTERWARDS]))
            row = rows.add(_row(client, health, now, now, notes))
            data = {"score": round(health.score, 2), "state": health.state.value, "notes": len(notes)}
            await self._audit.record(session, principal, "teams.client_scored", client.id, data)
        self._metrics.teams_health_scores.labels(state=health.state.value).inc()
        return row


def _row(client: Client, health: Health, at: datetime, now: datetime, notes: Sequence[str]) -> HealthScore:
    return HealthScore(
        id=new_id("health"),
        created_at=now,
        client_id=client.id,
        at=at,
        score=health.score,
        state=health.state.value,
        factors=[asdict(factor) for factor in health.factors],
        method=health.method,
        notes=list(notes),
    )
