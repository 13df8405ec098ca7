"""Gives out and erases everything that is kept of one person, wherever it is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.governance.audit import Audit
from app.governance.models import PersonErasure
from app.governance.people import (
    Alias,
    Aliases,
    Kind,
    PersonStore,
    PersonTraces,
    alias_of,
    all_aliases,
    person_mark,
)
from app.ids import new_id
from app.jobs.engine import MAINTENANCE_QUEUE, Jobs
from app.jobs.port import Job, JobContext, Schedule, StepFailed
from app.principal import Principal, Role
from app.storage.db import Database

ERASE_JOB: Final = "people.erase"
SWEEP_JOB: Final = "people.sweep"
ATTEMPTS: Final = 8
LEFT_OVER: Final = timedelta(hours=1)
_NAMES: Final = (Kind.EMAIL, Kind.USER)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Person:
    """What is kept of a person, by store."""

    id: str
    aliases: Aliases
    stores: Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Erased:
    """How much each store held; `pending` are those that could not be reached, whose turn comes in a job."""

    counts: Mapping[str, int]
    pending: tuple[str, ...]


class People:
    """Export and erasure over every store.

    An erasure removes the rows in one transaction, together with its entry in the audit log, the person's names and a
    job; then what lies outside the database. The job does all of it again `again_s` seconds later, for what was under
    way meanwhile and for a process that died in between, and then forgets the names.

    Args:
        secret: for the marks that the audit log calls people by.
    """

    def __init__(
        self,
        db: Database,
        jobs: Jobs,
        audit: Audit,
        clock: Clock,
        secret: bytes,
        stores: Sequence[PersonStore],
        traces: Sequence[PersonTraces],
        *,
        again_s: float,
    ) -> None:
        self._db = db
        self._jobs = jobs
        self._audit = audit
        self._clock = clock
        self._secret = secret
        self._stores = stores
        self._traces = traces
        self._again_s = again_s

    def declared(self) -> tuple[tuple[Job, ...], tuple[Schedule, ...]]:
        jobs = (Job(ERASE_JOB, MAINTENANCE_QUEUE, self._job), Job(SWEEP_JOB, MAINTENANCE_QUEUE, self._sweep))
        return jobs, (Schedule(SWEEP_JOB, "41 * * * *", SWEEP_JOB),)

    async def export(self, principal: Principal, given: str) -> Person:
        """Everything that is kept. Noted in the audit log.

        Raises Forbidden below the role 'admin', InvalidInput for what is neither an address nor a user's id,
        Unavailable where a store does not answer.
        """
        principal.require(Role.ADMIN)
        asked, tenant = alias_of(given), principal.tenant_id
        async with self._db.reading(principal.tenant_id) as session:
            known = await all_aliases(session, tenant, self._stores, [asked])
            found = {store.name: await store.export(session, tenant, known) for store in self._stores}
        for trace in self._traces:
            found[trace.name] = await trace.export(tenant, known)
        rows = {name: len(kept) for name, kept in found.items()}
        async with self._db.transaction(principal.tenant_id) as session:
            await self._record(session, principal, "person.exported", known, {"rows": rows})
        return Person(asked.value, known, found)

    async def erase(self, principal: Principal, given: str) -> Erased:
        """Erases everything; a second time finds nothing.

        Raises Forbidden below the role 'admin', InvalidInput for what is neither an address nor a user's id.
        """
        principal.require(Role.ADMIN)
        asked, tenant = alias_of(given), principal.tenant_id
        async with self._db.transaction(principal.tenant_id) as session:
            known = await all_aliases(session, tenant, self._stores, [asked])
            counts = await self._erase_rows(session, tenant, known)
            await self._note(session, tenant, known)
            await self._record(session, principal, "person.erased", known, {"erased": counts})
        outside, pending = await self._erase_traces(tenant, known)
        await self._db.forget_deleted()
        return Erased({**counts, **outside}, pending)

    async def _erase_rows(self, session: AsyncSession, tenant_id: str, known: Aliases) -> dict[str, int]:
        return {store.name: await store.erase(session, tenant_id, known) for store in self._stores}

    async def _erase_traces(self, tenant_id: str, known: Aliases) -> tuple[dict[str, int], tuple[str, ...]]:
        counts, pending = {}, []
        for trace in self._traces:
            try:
                counts[trace.name] = await trace.erase(tenant_id, known)
            except Exception as error:
                _log.warning("people.erase_pending", store=trace.name, error=repr(error))
                pending.append(trace.name)
        return counts, tuple(pending)

    async def _note(self, session: AsyncSession, tenant_id: str, known: Aliases) -> None:
        erasure = PersonErasure(id=new_id("erasure"), tenant_id=tenant_id, created_at=self._clock())
        erasure.aliases = [list(alias) for alias in sorted(known)]
        session.add(erasure)
        # The names are in our own row, which goes in the end; a job's payload stays for weeks.
        payload = {"tenant_id": tenant_id, "erasure_id": erasure.id}
        job_id = f"{ERASE_JOB}:{erasure.id}"
        await self._jobs.enqueue(session, ERASE_JOB, payload, job_id=job_id, delay_s=self._again_s)

    async def _record(
        self, session: AsyncSession, principal: Principal, action: str, known: Aliases, data: Mapping[str, Any]
    ) -> None:
        marks = sorted(person_mark(self._secret, principal.tenant_id, alias) for alias in known if alias.kind in _NAMES)
        await self._audit.record(session, principal, action, marks[0], {"people": marks, **data})

    async def _job(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        tenant_id, erasure_id = payload["tenant_id"], payload["erasure_id"]
        return {"erased": await context.step("erase", self._again, tenant_id, erasure_id, attempts=ATTEMPTS)}

    async def _again(self, tenant_id: str, erasure_id: str) -> bool:
        """Erases what has come since, then the names. False where that was done before."""
        async with self._db.transaction(tenant_id) as session:
            mine = PersonErasure.tenant_id == tenant_id, PersonErasure.id == erasure_id
            erasure = await session.scalar(select(PersonErasure).where(*mine))
            if erasure is None:
                return False
            names = [Alias(Kind(kind), value) for kind, value in erasure.aliases]
            known = await all_aliases(session, tenant_id, self._stores, names)
            await self._erase_rows(session, tenant_id, known)
        for trace in self._traces:
            await trace.erase(tenant_id, known)
        async with self._db.transaction(tenant_id) as session:
            await session.execute(delete(PersonErasure).where(*mine))
        await self._db.forget_deleted()
        return True

    async def _sweep(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        """Tries erasures again whose job gave up: a store was away for longer than it waits."""
        left, failed = await context.step("look", self._left_over), 0
        for tenant_id, erasure_id in left:
            try:
                await context.step("erase", self._again, tenant_id, erasure_id)
            except StepFailed as error:
                failed += 1
                _log.error("people.erasure_left", tenant=tenant_id, erasure=erasure_id, error=error.reason)
        return {"erasures": len(left), "failed": failed}

    async def _left_over(self) -> list[tuple[str, str]]:
        async with self._db.operator_reading() as session:
            old = select(PersonErasure).where(PersonErasure.created_at < self._clock() - LEFT_OVER)
            return [(row.tenant_id, row.id) for row in await session.scalars(old.order_by(PersonErasure.id))]


class JobsOfPerson:
    """`PersonTraces` of durable jobs: payloads are ids, but results and errors may say more."""

    name = "jobs"

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def export(self, _tenant_id: str, _known: Aliases) -> list[dict[str, Any]]:
        return []

    async def erase(self, _tenant_id: str, known: Aliases) -> int:
        """Ids of rows belong to one tenant."""
        return await self._jobs.erase(known.of(Kind.RECORD, Kind.DECISION))
