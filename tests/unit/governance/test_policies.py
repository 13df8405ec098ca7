"""A policy is proposed, put in force by an admin, and put back by activating the older one."""

import math
from typing import Any

import pytest
from sqlalchemy import select

from app.errors import Forbidden, InvalidInput, NotFound
from app.governance.audit import Audit
from app.governance.models import AuditEntry, PolicyState
from app.governance.policies import Policies, PolicyRepository
from app.principal import Principal, Role, worker
from app.storage.db import Database
from tests.conftest import StillClock

ADMIN = Principal("acme", "key_1", Role.ADMIN)
THRESHOLDS = {"pursue": 0.4, "escalate": 0.8}


@pytest.fixture
def policies(clock: StillClock) -> Policies:
    return Policies(clock, Audit(clock))


async def propose(db: Database, policies: Policies, principal: Principal = ADMIN, pack: str = "leads") -> int:
    async with db.operator_transaction() as session:
        policy = await policies.propose(session, principal, pack, THRESHOLDS, {"outcomes": 420})
        return policy.version


async def activate(db: Database, policies: Policies, version: int, principal: Principal = ADMIN) -> None:
    async with db.operator_transaction() as session:
        await policies.activate(session, principal, "leads", version)


async def states(db: Database, tenant: str = "acme") -> list[tuple[int, str]]:
    async with db.operator_reading() as session:
        return [(policy.version, policy.state) for policy in await PolicyRepository(session, tenant).versions("leads")]


async def test_a_proposal_changes_nothing_by_itself(db: Database, policies: Policies) -> None:
    assert await propose(db, policies, worker("acme")) == 1
    async with db.operator_reading() as session:
        repository = PolicyRepository(session, "acme")
        assert await repository.active("leads") is None
        policy = await repository.version("leads", 1)
    assert policy.state == PolicyState.PROPOSED
    assert (policy.thresholds, policy.evidence, policy.created_by) == (THRESHOLDS, {"outcomes": 420}, "worker")
    assert policy.activated_by is None


async def test_activating_retires_the_one_before_and_rolling_back_is_activating_the_older(
    db: Database, policies: Policies, clock: StillClock
) -> None:
    await propose(db, policies)
    await propose(db, policies)
    await activate(db, policies, 1)
    await activate(db, policies, 2)
    assert await states(db) == [(1, "retired"), (2, "active")]
    clock.advance(hours=1)
    await activate(db, policies, 1)
    assert await states(db) == [(1, "active"), (2, "retired")]
    async with db.operator_reading() as session:
        policy = await PolicyRepository(session, "acme").active("leads")
    assert policy is not None
    assert (policy.activated_by, policy.activated_at) == ("key_1", clock.now)


async def test_activating_the_active_one_changes_nothing(db: Database, policies: Policies) -> None:
    await propose(db, policies)
    await activate(db, policies, 1)
    await activate(db, policies, 1)
    async with db.operator_reading() as session:
        entries = (await session.execute(select(AuditEntry.action, AuditEntry.data).order_by(AuditEntry.seq))).all()
    assert [tuple(entry) for entry in entries] == [
        ("policy.proposed", '{"pack":"leads","version":1}'),
        ("policy.activated", '{"pack":"leads","replaced":null,"version":1}'),
    ]


async def test_versions_are_counted_for_each_tenant_and_pack(db: Database, policies: Policies) -> None:
    other = Principal("other", "key_2", Role.ADMIN)
    versions = [
        await propose(db, policies),
        await propose(db, policies),
        await propose(db, policies, other),
        await propose(db, policies, pack="chat"),
    ]
    assert versions == [1, 2, 1, 1]
    await activate(db, policies, 1, other)
    assert await states(db) == [(1, "proposed"), (2, "proposed")]
    assert await states(db, "other") == [(1, "active")]


async def test_only_an_admin_activates_and_only_an_agent_proposes(db: Database, policies: Policies) -> None:
    await propose(db, policies)
    with pytest.raises(Forbidden, match="admin"):
        await activate(db, policies, 1, worker("acme"))
    with pytest.raises(Forbidden, match="agent"):
        await propose(db, policies, Principal("acme", "key_3", Role.VIEWER))


async def test_a_version_that_is_not_there_is_not_found(db: Database, policies: Policies) -> None:
    await propose(db, policies)
    with pytest.raises(NotFound, match="no policy version 2"):
        await activate(db, policies, 2)
    with pytest.raises(NotFound, match="no policy version 1"):
        await activate(db, policies, 1, Principal("other", "key_2", Role.ADMIN))


@pytest.mark.parametrize(
    "thresholds", [{}, {"pursue": math.nan}, {"pursue": math.inf}, {"pursue": "0.4"}, {"on": True}]
)
async def test_thresholds_are_finite_numbers(db: Database, policies: Policies, thresholds: Any) -> None:
    async with db.operator_transaction() as session:
        with pytest.raises(InvalidInput):
            await policies.propose(session, ADMIN, "leads", thresholds, {})
