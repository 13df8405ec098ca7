"""Assignment is deterministic, respects the weights, and moves no unit without need."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import select

from app.errors import Conflict, Forbidden, InvalidInput, NotFound
from app.governance.audit import Audit
from app.governance.experiments import ENABLED, Arm, Definition, Experiments, assign
from app.governance.flags import Flags
from app.governance.models import AuditEntry
from app.principal import Principal, Role
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.examples import examples

ADMIN = Principal("acme", "key_1", Role.ADMIN)
PAIR = (Arm(arm="control", weight=50), Arm(arm="short", weight=50, prompt_version=2))

names = st.text("abcdefgh", min_size=1, max_size=8)
units = st.text(min_size=1, max_size=40)
weights = st.floats(0.1, 100)


def definition(name: str, shares: dict[str, float]) -> Definition:
    return Definition(name, "leads", tuple(Arm(arm=arm, weight=weight) for arm, weight in shares.items()))


@given(names, st.dictionaries(names, weights, min_size=2, max_size=5), units)
def test_a_unit_always_falls_into_the_same_arm(name: str, shares: dict[str, float], unit: str) -> None:
    backwards = dict(reversed(shares.items()))
    first = assign(definition(name, shares), unit)
    assert first.arm in shares
    assert assign(definition(name, shares), unit) == first
    assert assign(definition(name, backwards), unit) == first


def test_assignments_are_the_same_on_every_machine_and_release() -> None:
    found = [assign(definition("greeting", {"a": 1, "b": 2}), f"lead_{number}").arm for number in range(12)]
    assert "".join(found) == "bababbbabbab"


@settings(max_examples=examples(15), deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_shares_follow_the_weights(seed: int, parts: list[int]) -> None:
    # Five standard deviations: one example in two million would fail by chance.
    number = 2000
    shares = {f"arm{index}": float(part) for index, part in enumerate(parts)}
    experiment = definition(f"seed{seed}", shares)
    seen = Counter(assign(experiment, f"lead_{unit}").arm for unit in range(number))
    for arm, weight in shares.items():
        share = weight / sum(parts)
        assert abs(seen[arm] - number * share) <= 5 * math.sqrt(number * share * (1 - share))


@given(names, st.dictionaries(names, weights, min_size=2, max_size=4), weights, st.lists(units, max_size=30))
def test_a_new_arm_takes_units_and_moves_none_between_the_others(
    name: str, shares: dict[str, float], weight: float, some: list[str]
) -> None:
    before, after = definition(name, shares), definition(name, {**shares, "new-arm": weight})
    for unit in some:
        assert assign(after, unit).arm in {assign(before, unit).arm, "new-arm"}


@given(names, st.dictionaries(names, weights, min_size=2, max_size=4), st.lists(units, max_size=30))
def test_a_heavier_arm_loses_nobody(name: str, shares: dict[str, float], some: list[str]) -> None:
    arm = next(iter(shares))
    heavier = definition(name, {**shares, arm: shares[arm] * 2})
    for unit in some:
        if assign(definition(name, shares), unit).arm == arm:
            assert assign(heavier, unit).arm == arm


@given(units)
def test_an_arm_without_weight_gets_nobody(unit: str) -> None:
    assert assign(definition("x", {"off": 0, "a": 1, "b": 1}), unit).arm != "off"


def test_two_experiments_divide_the_units_differently() -> None:
    shares = {"a": 1.0, "b": 1.0}
    both = Counter(
        (assign(definition("one", shares), f"lead_{unit}").arm, assign(definition("two", shares), f"lead_{unit}").arm)
        for unit in range(2000)
    )
    assert len(both) == 4
    assert min(both.values()) > 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": -1},
        {"weight": math.inf},
        {"weight": math.nan},
        {"arm": ""},
        {"arm": "A b"},
        {"prompt_version": 0},
        {"x": 1},
    ],
)
def test_a_malformed_arm_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Arm.model_validate({"arm": "control", "weight": 1, **wrong})


@pytest.fixture
def flags(db: Database, clock: StillClock) -> Flags:
    return Flags(db, clock)


@pytest.fixture
def experiments(clock: StillClock, flags: Flags) -> Experiments:
    return Experiments(clock, flags, Audit(clock))


async def create(db: Database, experiments: Experiments, name: str = "greeting", pack: str = "leads") -> str:
    async with db.operator_transaction() as session:
        return (await experiments.create(session, ADMIN, name, pack, PAIR)).id


async def running(db: Database, experiments: Experiments, tenant: str = "acme", pack: str = "leads") -> str | None:
    async with db.operator_reading() as session:
        found = await experiments.active(session, tenant, pack)
    return found.name if found else None


async def test_only_a_started_experiment_is_active_and_only_for_its_tenant_and_pack(
    db: Database, experiments: Experiments
) -> None:
    experiment = await create(db, experiments)
    assert await running(db, experiments) is None
    async with db.operator_transaction() as session:
        await experiments.start(session, ADMIN, experiment)
    assert await running(db, experiments) == "greeting"
    assert await running(db, experiments, tenant="other") is None
    assert await running(db, experiments, pack="chat") is None
    async with db.operator_transaction() as session:
        await experiments.stop(session, ADMIN, experiment)
    assert await running(db, experiments) is None


async def test_the_arms_come_back_as_they_went_in(db: Database, experiments: Experiments) -> None:
    experiment = await create(db, experiments)
    async with db.operator_transaction() as session:
        await experiments.start(session, ADMIN, experiment)
    async with db.operator_reading() as session:
        found = await experiments.active(session, "acme", "leads")
    assert found is not None
    assert found.arms == PAIR


async def test_a_pack_runs_one_experiment_at_a_time(db: Database, experiments: Experiments) -> None:
    first, second = await create(db, experiments), await create(db, experiments, "tone")
    elsewhere = await create(db, experiments, "chat-tone", pack="chat")
    async with db.operator_transaction() as session:
        await experiments.start(session, ADMIN, first)
        await experiments.start(session, ADMIN, elsewhere)
        with pytest.raises(Conflict, match="Another experiment of 'leads' is running"):
            await experiments.start(session, ADMIN, second)
        await experiments.stop(session, ADMIN, first)
        await experiments.start(session, ADMIN, second)
    assert await running(db, experiments) == "tone"


async def test_what_has_ended_is_not_started_again(db: Database, experiments: Experiments) -> None:
    experiment = await create(db, experiments)
    async with db.operator_transaction() as session:
        first = (await experiments.stop(session, ADMIN, experiment)).stopped_at
        assert (await experiments.stop(session, ADMIN, experiment)).stopped_at == first
        with pytest.raises(Conflict, match="is stopped"):
            await experiments.start(session, ADMIN, experiment)


async def test_a_taken_name_is_refused_and_the_session_lives_on(db: Database, experiments: Experiments) -> None:
    await create(db, experiments)
    async with db.operator_transaction() as session:
        with pytest.raises(Conflict, match="'greeting' already"):
            await experiments.create(session, ADMIN, "greeting", "leads", PAIR)
        await experiments.create(session, ADMIN, "greeting2", "leads", PAIR)


@pytest.mark.parametrize(
    "arms", [(), PAIR[:1], (PAIR[0], PAIR[0]), (PAIR[0], Arm(arm="off", weight=0))], ids=["none", "one", "same", "off"]
)
async def test_arms_that_compare_nothing_are_refused(
    db: Database, experiments: Experiments, arms: tuple[Arm, ...]
) -> None:
    async with db.operator_transaction() as session:
        with pytest.raises(InvalidInput):
            await experiments.create(session, ADMIN, "greeting", "leads", arms)


async def test_another_tenants_experiment_is_not_found(db: Database, experiments: Experiments) -> None:
    experiment = await create(db, experiments)
    async with db.operator_transaction() as session:
        with pytest.raises(NotFound):
            await experiments.start(session, Principal("other", "key_2", Role.ADMIN), experiment)


async def test_experiments_need_an_admin(db: Database, experiments: Experiments) -> None:
    agent = Principal("acme", "key_2", Role.AGENT)
    async with db.operator_transaction() as session:
        for attempt in (
            experiments.create(session, agent, "x", "leads", PAIR),
            experiments.start(session, agent, "x"),
            experiments.stop(session, agent, "x"),
        ):
            with pytest.raises(Forbidden):
                await attempt


async def test_the_flag_turns_assignment_off(db: Database, experiments: Experiments, flags: Flags) -> None:
    experiment = await create(db, experiments)
    async with db.operator_transaction() as session:
        await experiments.start(session, ADMIN, experiment)
        await flags.set(session, ADMIN, ENABLED, False)
    await flags.refresh()
    assert await running(db, experiments) is None


async def test_every_step_is_audited(db: Database, experiments: Experiments) -> None:
    experiment = await create(db, experiments)
    async with db.operator_transaction() as session:
        await experiments.start(session, ADMIN, experiment)
        await experiments.stop(session, ADMIN, experiment)
        await experiments.stop(session, ADMIN, experiment)
        actions = (await session.scalars(select(AuditEntry.action).order_by(AuditEntry.seq))).all()
    assert actions == ["experiment.created", "experiment.started", "experiment.stopped"]
