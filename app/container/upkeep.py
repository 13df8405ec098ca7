"""What a process does beside its requests."""

import asyncio
from typing import Any

import structlog

from app.agent.tools.records import count_waiting
from app.clock import Clock
from app.container.ground import Ground
from app.http.idempotency import purge_expired
from app.jobs.engine import MAINTENANCE_QUEUE
from app.jobs.port import Job, JobContext, Schedule
from app.knowledge.repository import count_by_status
from app.storage.db import Database

log = structlog.get_logger(__name__)

GAUGES_S = 15.0
PURGE_BATCH = 5_000
PURGE_KEYS = "http.purge_idempotency_keys"
PURGE_SCHEDULE = Schedule(PURGE_KEYS, "23 * * * *", PURGE_KEYS)


async def keep_gauges(ground: Ground) -> None:
    """What waits for a person, and how far documents are: a query a scrape would be somebody else's to time."""
    while True:
        try:
            async with ground.db.operator_reading() as session:
                waiting, documents = await count_waiting(session), await count_by_status(session)
        except Exception as error:
            log.warning("gauges.failed", error=str(error))
        else:
            ground.metrics.effects_parked.set(waiting.parked)
            ground.metrics.approvals_pending.set(waiting.pending)
            for status, count in documents.items():
                ground.metrics.documents.labels(status=status).set(count)
        await asyncio.sleep(GAUGES_S)


def purging(db: Database, clock: Clock) -> Job:
    """Takes idempotency keys away whose time is over."""

    async def purge(_context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        purged = 0
        while True:
            async with db.operator_transaction() as session:
                batch = await purge_expired(session, clock(), PURGE_BATCH)
            purged += batch
            if batch < PURGE_BATCH:
                return {"purged": purged}

    return Job(PURGE_KEYS, MAINTENANCE_QUEUE, purge)
