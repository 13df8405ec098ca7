"""Any tampering with the chain is found, at its place."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.governance.audit import GENESIS, Audit, AuditReport, head, verify
from app.governance.models import AuditEntry, AuditHead
from app.principal import Principal, Role
from app.storage.db import Database
from app.telemetry.metrics import Metrics
from tests.conftest import StillClock
from tests.support.examples import examples

tenants = (f"tenant-{number}" for number in count())
in_one_database = settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def admin(tenant: str = "acme") -> Principal:
    return Principal(tenant, "key_1", Role.ADMIN)


async def write(db: Database, clock: StillClock, tenant: str, number: int) -> None:
    audit = Audit(clock)
    async with db.operator_transaction() as session:
        for step in range(number):
            await audit.record(session, admin(tenant), "lead.decided", f"lead_{step}", {"step": step})
            clock.advance(seconds=1)


async def checked(db: Database, tenant: str | None = None) -> AuditReport:
    async with db.operator_reading() as session:
        return await verify(session, tenant)


Tampering = Callable[[AsyncSession, str, int, int], Awaitable[Any]]


def _change(**values: Any) -> Tampering:
    async def change(session: AsyncSession, tenant: str, seq: int, _number: int) -> None:
        where = (AuditEntry.tenant_id == tenant, AuditEntry.seq == seq)
        await session.execute(update(AuditEntry).where(*where).values(**values))

    return change


async def _delete(session: AsyncSession, tenant: str, seq: int, _number: int) -> None:
    await session.execute(delete(AuditEntry).where(AuditEntry.tenant_id == tenant, AuditEntry.seq == seq))


async def _truncate(session: AsyncSession, tenant: str, seq: int, _number: int) -> None:
    await session.execute(delete(AuditEntry).where(AuditEntry.tenant_id == tenant, AuditEntry.seq >= seq))


async def _swap(session: AsyncSession, tenant: str, seq: int, number: int) -> None:
    other = seq % number + 1
    for was, now in ((seq, -1), (other, seq), (-1, other)):
        where = (AuditEntry.tenant_id == tenant, AuditEntry.seq == was)
        await session.execute(update(AuditEntry).where(*where).values(seq=now))


async def _append(session: AsyncSession, tenant: str, _seq: int, number: int) -> None:
    await _forge(session, tenant, number, number + 1)


async def _prepend(session: AsyncSession, tenant: str, _seq: int, _number: int) -> None:
    await _forge(session, tenant, 1, 0)


async def _forge(session: AsyncSession, tenant: str, like: int, seq: int) -> None:
    columns = [column for column in AuditEntry.__table__.columns if column.name not in ("id", "seq")]
    query = select(*columns).where(AuditEntry.tenant_id == tenant, AuditEntry.seq == like)
    row = (await session.execute(query)).mappings().one()
    await session.execute(insert(AuditEntry).values(**row, id=f"forged-{tenant}", seq=seq))


async def _drop_head(session: AsyncSession, tenant: str, _seq: int, _number: int) -> None:
    await session.execute(delete(AuditHead).where(AuditHead.tenant_id == tenant))


async def _drop_entries(session: AsyncSession, tenant: str, _seq: int, _number: int) -> None:
    await session.execute(delete(AuditEntry).where(AuditEntry.tenant_id == tenant))


async def _rename(session: AsyncSession, tenant: str, seq: int, number: int) -> None:
    await _change(id=f"renamed-{tenant}")(session, tenant, seq, number)


async def _give_away(session: AsyncSession, tenant: str, seq: int, number: int) -> None:
    await _change(tenant_id=f"thief-of-{tenant}")(session, tenant, seq, number)


TAMPERINGS: list[Tampering] = [
    _rename,
    _give_away,
    _change(actor="key_2"),
    _change(action="lead.erased"),
    _change(subject="lead_x"),
    _change(data='{"step":99}'),
    _change(created_at=StillClock().now.replace(year=2020)),
    _change(hash="f" * 64),
    _change(prev_hash="f" * 64),
    _delete,
    _truncate,
    _swap,
    _append,
    _prepend,
    _drop_head,
    _drop_entries,
]


async def test_an_empty_and_a_written_log_hold(db: Database, clock: StillClock) -> None:
    assert await checked(db) == AuditReport(0, ())
    await write(db, clock, "acme", 3)
    await write(db, clock, "other", 2)
    report = await checked(db)
    assert report.ok
    assert report.entries == 5
    assert (await checked(db, "other")).entries == 2


@in_one_database
@given(st.integers(2, 6), st.data(), st.sampled_from(TAMPERINGS))
async def test_any_tampering_is_found(
    db: Database, clock: StillClock, number: int, data: st.DataObject, tampering: Tampering
) -> None:
    tenant, neighbour = next(tenants), next(tenants)
    await write(db, clock, tenant, number)
    await write(db, clock, neighbour, 2)
    seq = data.draw(st.integers(1, number))
    async with db.operator_transaction() as session:
        await tampering(session, tenant, seq, number)
    report = await checked(db, tenant)
    assert not report.ok
    (found,) = report.broken
    assert found.tenant_id == tenant
    assert found.why
    assert (await checked(db, neighbour)).ok


@pytest.mark.parametrize(
    ("tampering", "seq", "why"),
    [
        (_delete, 2, "entry 2 is missing: entry 3 follows entry 1"),
        (_change(action="x"), 2, "entry 2 was changed after it was written"),
        (_change(prev_hash="0"), 3, "entry 3 does not follow from entry 2"),
        (_truncate, 3, "the chain ends at entry 2, but its head names entry 4"),
    ],
)
async def test_the_report_names_the_first_place(
    db: Database, clock: StillClock, tampering: Tampering, seq: int, why: str
) -> None:
    await write(db, clock, "acme", 4)
    async with db.operator_transaction() as session:
        await tampering(session, "acme", seq, 4)
        await _change(action="later")(session, "acme", 4, 4)
    (found,) = (await checked(db)).broken
    assert (found.seq, found.why) == (seq, why)


async def test_a_newest_entry_that_was_forged_to_fit_does_not_meet_the_head(db: Database, clock: StillClock) -> None:
    await write(db, clock, "acme", 2)
    async with db.operator_transaction() as session:
        # What a forger who knows the scheme would do, but for the head.
        kept = await head(session, "acme")
        await _truncate(session, "acme", 2, 2)
        first = (await session.scalars(select(AuditEntry.hash).where(AuditEntry.seq == 1))).one()
        await session.execute(update(AuditHead).values(seq=1, hash=first))
        await Audit(clock).record(session, admin(), "lead.decided", "lead_forged", {})
        await session.execute(update(AuditHead).values(seq=kept[0], hash=kept[1]))
    (found,) = (await checked(db)).broken
    assert (found.seq, found.why) == (2, "entry 2 is not the one that the chain's head names")


async def test_a_rolled_back_entry_leaves_no_trace(db: Database, clock: StillClock) -> None:
    await write(db, clock, "acme", 1)
    async with db.operator_transaction() as session:
        await Audit(clock).record(session, admin(), "lead.decided", "lead_9", {})
        await session.rollback()
    await write(db, clock, "acme", 1)
    report = await checked(db)
    assert report.ok
    assert report.entries == 2


async def test_concurrent_writers_make_one_chain(db: Database, clock: StillClock) -> None:
    await asyncio.gather(*(write(db, clock, "acme", 2) for _ in range(8)))
    report = await checked(db)
    assert report.ok
    assert report.entries == 16


async def test_a_chain_longer_than_a_batch_is_read_whole(
    db: Database, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.governance.audit._BATCH", 3)
    await write(db, clock, "acme", 7)
    assert (await checked(db)).entries == 7
    async with db.operator_transaction() as session:
        await _change(actor="x")(session, "acme", 7, 7)
    assert (await checked(db)).broken[0].seq == 7


async def test_verifying_leaves_the_callers_objects_alone(db: Database, clock: StillClock) -> None:
    await write(db, clock, "acme", 1)
    async with db.operator_transaction() as session:
        entry = (await session.scalars(select(AuditEntry))).one()
        await verify(session)
        assert entry in session


async def test_personal_data_that_slips_in_is_masked(db: Database, clock: StillClock) -> None:
    async with db.operator_transaction() as session:
        data = {"to": ["ada@example.org"], "count": 2345678901, "ok": True}
        await Audit(clock).record(session, admin(), "mail.sent", "ada@example.org", data)
    async with db.operator_reading() as session:
        entry = (await session.scalars(select(AuditEntry))).one()
    assert entry.subject == "[email]"
    assert entry.data == '{"count":2345678901,"ok":true,"to":["[email]"]}'
    assert (await checked(db)).ok


async def test_the_head_can_be_kept_elsewhere(db: Database, clock: StillClock) -> None:
    async with db.operator_reading() as session:
        assert await head(session, "acme") == (0, GENESIS)
    await write(db, clock, "acme", 2)
    async with db.operator_reading() as session:
        seq, digest = await head(session, "acme")
        entry = (await session.scalars(select(AuditEntry).where(AuditEntry.seq == 2))).one()
    assert (seq, digest) == (2, entry.hash)


async def test_entries_are_counted(db: Database, clock: StillClock) -> None:
    metrics = Metrics(CollectorRegistry())
    async with db.operator_transaction() as session:
        await Audit(clock, metrics).record(session, admin(), "flag.set", "kill.all", {})
    assert metrics.registry.get_sample_value("trellis_audit_entries_total") == 1
