"""Decisions that are written together: one transaction, and each still stands for itself."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.conversation.writing import DecisionWriter
from app.governance.audit import Audit, AuditNote, verify
from app.governance.models import AuditEntry, Decision, DecisionState
from app.ids import new_id
from app.principal import Principal, Role
from app.storage.db import Database


class CountedDatabase:
    """Counts the transactions, and holds each back until its gate is open."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.transactions = 0
        self.gate = asyncio.Event()

    @asynccontextmanager
    async def transaction_of(self, tenants):
        self.transactions += 1
        await self.gate.wait()
        async with self._db.transaction_of(tenants) as session:
            yield session


@pytest.fixture
def counted(db) -> CountedDatabase:
    return CountedDatabase(db)


@pytest.fixture
def writer(counted, clock) -> DecisionWriter:
    return DecisionWriter(counted, Audit(clock))


def decision(clock, tenant: str = "acme", **fields: Any) -> tuple[dict[str, Any], AuditNote]:
    made = new_id("dec")
    row = {
        "id": made,
        "tenant_id": tenant,
        "created_at": clock(),
        "pack": "chat",
        "subject_id": "u",
        "trigger_id": made,
        "trigger_key": f"{tenant}:chat:{made}",
        "action": "answered",
        "confidence": 1.0,
        "reason": "It was asked.",
        "state": DecisionState.DONE,
    }
    return row | fields, AuditNote(Principal(tenant, "key_1", Role.AGENT), "decision.made", made, {})


async def ids(db, model=Decision, column="id") -> set[str]:
    async with db.operator_reading() as session:
        return set(await session.scalars(select(getattr(model, column))))


async def test_what_ends_while_another_is_written_shares_the_next_transaction(db, clock, counted, writer):
    tenants = ("acme", "globex", "acme", "globex", "acme")
    made = [decision(clock, tenant) for tenant in tenants]
    first = asyncio.create_task(writer.write(*made[0]))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(writer.write(*one)) for one in made[1:]]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in (first, *others))
    counted.gate.set()
    await asyncio.gather(first, *others)
    assert counted.transactions == 2
    assert await ids(db) == await ids(db, AuditEntry, "subject") == {row["id"] for row, _ in made}
    async with db.operator_reading() as session:
        report = await verify(session)
    assert (report.ok, report.entries) == (True, 5)


async def test_a_row_that_cannot_be_written_fails_alone(db, clock, counted, writer):
    counted.gate.set()
    good, bad, late = decision(clock), decision(clock), decision(clock)
    bad[0]["trigger_key"] = good[0]["trigger_key"]
    outcomes = await asyncio.gather(*(writer.write(*one) for one in (good, bad, late)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), IntegrityError, type(None)]
    assert await ids(db) == await ids(db, AuditEntry, "subject") == {good[0]["id"], late[0]["id"]}


async def test_who_leaves_before_the_transaction_begins_is_not_written(db, clock, counted, writer):
    first = asyncio.create_task(writer.write(*decision(clock)))
    await asyncio.sleep(0.01)
    left, stays = decision(clock), decision(clock)
    leaving, staying = asyncio.create_task(writer.write(*left)), asyncio.create_task(writer.write(*stays))
    await asyncio.sleep(0.01)
    leaving.cancel()
    counted.gate.set()
    await asyncio.gather(first, staying)
    assert leaving.cancelled()
    assert left[0]["id"] not in await ids(db)
    assert stays[0]["id"] in await ids(db)


async def test_the_writer_goes_on_after_a_failure(db, clock, counted, writer):
    counted.gate.set()
    good = decision(clock)
    await writer.write(*good)
    with pytest.raises(IntegrityError):
        await writer.write(*good)
    after = decision(clock)
    await writer.write(*after)
    assert await ids(db) == {good[0]["id"], after[0]["id"]}
