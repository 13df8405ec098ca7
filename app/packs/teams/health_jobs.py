"""Every night: what is new of each client, then its score. One score a day; a crash repeats at most one batch."""

from collections import Counter
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import select

from app.jobs.port import Job, JobContext, QueueSpec, Schedule
from app.pack import Kit
from app.packs.teams.client_repository import ScoreRepository
from app.packs.teams.models import Client
from app.packs.teams.scoring import Scoring
from app.packs.teams.syncing import Outages
from app.packs.teams.team import PACK
from app.principal import worker

HEALTH_JOB: Final = "teams.health"
QUEUE: Final = "teams_health"
BATCH: Final = 50

log = structlog.get_logger(__name__)


class HealthJobs:
    def __init__(self, kit: Kit, scoring: Scoring) -> None:
        self._kit = kit
        self._scoring = scoring

    async def run(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        """Every client of every tenant. One that cannot be scored is counted and does not stop the others."""
        last, counts = "", Counter[str]()
        while True:
            done = await context.step("batch", self.batch, last)
            counts.update(done["counts"])
            await context.progress(counts.total(), 0)
            last = done["last"]
            if not last:
                return dict(counts)

    async def batch(self, after: str) -> dict[str, Any]:
        """The next clients after an id: how many ended how, and the last one's id, "" where none is left."""
        async with self._kit.ports.db.operator_reading() as session:
            query = select(Client).where(Client.id > after).order_by(Client.id).limit(BATCH)
            clients = (await session.scalars(query)).all()
        outages = Outages()
        counts = Counter([await self._one(client, outages) for client in clients])
        return {"counts": dict(counts), "last": clients[-1].id if len(clients) == BATCH else ""}

    async def _one(self, client: Client, outages: Outages) -> str:
        """scored, empty (nothing is known), passed (it has today's score, or is stopped) or failed."""
        try:
            if self._kit.flags.killed(PACK, client.tenant_id) or await self._has_todays(client):
                return "passed"
            row = await self._scoring.score(worker(client.tenant_id), client, sync=True, outages=outages)
        except Exception:
            log.warning("teams.health_failed", client_id=client.id, exc_info=True)
            return "failed"
        return "empty" if row is None else "scored"

    async def _has_todays(self, client: Client) -> bool:
        today: datetime = self._kit.ports.clock().replace(hour=0, minute=0, second=0, microsecond=0)
        async with self._kit.ports.db.reading(client.tenant_id) as session:
            return await ScoreRepository(session, client.tenant_id).since(client.id, today)

    def declared(self) -> tuple[tuple[Job, ...], tuple[QueueSpec, ...], tuple[Schedule, ...]]:
        jobs = (Job(HEALTH_JOB, QUEUE, self.run),)
        queues = (QueueSpec(QUEUE, worker_concurrency=1, polling_interval_s=5.0, everywhere=1),)
        return jobs, queues, (Schedule("teams.health.nightly", "20 2 * * *", HEALTH_JOB),)
