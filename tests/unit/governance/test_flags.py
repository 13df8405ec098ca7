"""Flags are seen by every process within a second, and a kill switch cannot be overruled from below."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from prometheus_client import CollectorRegistry
from sqlalchemy import select, update

from app.errors import Conflict, Forbidden, InvalidInput, NotFound
from app.governance.audit import verify
from app.governance.flags import REFRESH_S, Flags, FlagSpec, UnknownFlag, kill_switch
from app.governance.models import AuditEntry, FlagRow
from app.governance.openfeature import FlagProvider
from app.principal import Principal, Role
from app.storage.db import Database
from app.telemetry.metrics import Metrics
from tests.conftest import StillClock

SPECS = (
    FlagSpec("leads.greeting", "formal", "How to greet."),
    FlagSpec("leads.pursue", 0.5, "From which score on."),
    FlagSpec("leads.follow_up", True, "Whether to follow up."),
    kill_switch("leads"),
    kill_switch("chat"),
)
OPERATOR = Principal("*", "cli", Role.ADMIN)


def admin(tenant: str = "acme") -> Principal:
    return Principal(tenant, "key_1", Role.ADMIN)


class Ticks:
    """A sleep that ends when the test says so, and remembers how long it was asked for."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._sleeping = asyncio.Event()
        self._wake = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        self._sleeping.set()
        await self._wake.wait()
        self._wake.clear()

    async def one(self) -> None:
        """Lets one sleep end, and returns when the next has begun."""
        await self._sleeping.wait()
        self._sleeping.clear()
        self._wake.set()
        await self._sleeping.wait()


def declared(db: Database, clock: StillClock, **more: Any) -> Flags:
    flags = Flags(db, clock, **more)
    flags.declare(*SPECS)
    return flags


@pytest.fixture
async def flags(db: Database, clock: StillClock) -> AsyncIterator[Flags]:
    flags = declared(db, clock)
    await flags.refresh()
    yield flags
    await flags.stop()


async def put(
    db: Database, flags: Flags, principal: Principal, name: str, value: Any, tenant: str | None = None
) -> None:
    async with db.operator_transaction() as session:
        await flags.set(session, principal, name, value, tenant)
    await flags.refresh()


def test_a_flag_that_nobody_set_has_its_default(flags: Flags) -> None:
    assert flags.text("leads.greeting", "acme") == "formal"
    assert flags.number("leads.pursue", "acme") == 0.5
    assert flags.bool("leads.follow_up", "acme") is True
    assert not flags.killed("leads", "acme")


async def test_a_tenants_value_goes_before_everyones(db: Database, flags: Flags) -> None:
    await put(db, flags, OPERATOR, "leads.greeting", "warm")
    await put(db, flags, admin(), "leads.greeting", "short")
    assert flags.text("leads.greeting", "acme") == "short"
    assert flags.text("leads.greeting", "other") == "warm"
    await put(db, flags, admin(), "leads.greeting", "shorter")
    assert flags.text("leads.greeting", "acme") == "shorter"


async def test_a_change_is_seen_by_another_process_at_its_next_tick(db: Database, clock: StillClock) -> None:
    ticks = Ticks()
    here, there = declared(db, clock), declared(db, clock, sleep=ticks)
    await there.start()
    async with db.operator_transaction() as session:
        await here.set(session, OPERATOR, "kill.leads", True)
    assert not there.killed("leads", "acme")
    await ticks.one()
    assert there.killed("leads", "acme")
    # A tick and the refresh after it fit into the second that is promised.
    assert set(ticks.asked) == {REFRESH_S}
    assert REFRESH_S <= 0.5
    await there.stop()


async def test_the_refresh_runs_by_itself(db: Database, clock: StillClock) -> None:
    here, there = declared(db, clock), declared(db, clock, refresh_s=0.005)
    await there.start()
    async with db.operator_transaction() as session:
        await here.set(session, OPERATOR, "kill.all", True)
    for _ in range(2000):
        if there.killed("chat", "acme"):
            break
        await asyncio.sleep(0.005)
    assert there.killed("chat", "acme")
    await there.stop()


async def test_what_is_rolled_back_is_never_seen(db: Database, flags: Flags) -> None:
    async with db.operator_transaction() as session:
        await flags.set(session, OPERATOR, "kill.all", True)
        await session.rollback()
    await flags.refresh()
    assert not flags.killed("leads", "acme")


@pytest.mark.parametrize("name", ["kill.all", "kill.leads"])
async def test_a_tenant_cannot_switch_on_what_is_stopped_for_all(db: Database, flags: Flags, name: str) -> None:
    await put(db, flags, OPERATOR, name, True)
    await put(db, flags, admin(), name, False)
    assert flags.killed("leads", "acme")
    assert flags.killed("chat", "acme") == (name == "kill.all")


async def test_a_tenants_own_switch_stops_only_that_tenant(db: Database, flags: Flags) -> None:
    await put(db, flags, admin(), "kill.leads", True)
    assert flags.killed("leads", "acme")
    assert not flags.killed("leads", "other")
    assert not flags.killed("chat", "acme")


async def test_a_failed_refresh_keeps_the_last_values_and_goes_on(
    db: Database, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = Ticks()
    flags = declared(db, clock, sleep=ticks)
    await put(db, flags, OPERATOR, "kill.leads", True)
    await flags.start()
    known_at = flags.refreshed_at
    clock.advance(seconds=5)
    with monkeypatch.context() as broken:
        broken.setattr(db, "reading", lambda _tenant: (_ for _ in ()).throw(OSError("the database is gone")))
        await ticks.one()
        await ticks.one()
    assert flags.killed("leads", "acme")
    assert flags.refreshed_at == known_at
    async with db.operator_transaction() as session:
        await flags.set(session, OPERATOR, "kill.leads", False)
    await ticks.one()
    assert not flags.killed("leads", "acme")
    assert flags.refreshed_at == clock.now
    await flags.stop()


async def test_a_database_that_cannot_be_read_stops_the_start(
    db: Database, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "reading", lambda _tenant: (_ for _ in ()).throw(OSError("the database is gone")))
    with pytest.raises(OSError, match="gone"):
        await declared(db, clock).start()


@pytest.mark.parametrize("read", ["bool", "text", "number"])
def test_reading_an_undeclared_flag_is_an_error(flags: Flags, read: str) -> None:
    with pytest.raises(UnknownFlag, match=r"'leads\.gretting' was never declared"):
        getattr(flags, read)("leads.gretting", "acme")


def test_reading_a_flag_as_another_type_is_an_error(flags: Flags) -> None:
    with pytest.raises(UnknownFlag, match="of type text, not number"):
        flags.number("leads.greeting", "acme")
    with pytest.raises(UnknownFlag, match="of type boolean, not number"):
        flags.number("leads.follow_up", "acme")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("leads.nothing", True, NotFound),
        ("leads.greeting", 1, InvalidInput),
        ("leads.greeting", None, InvalidInput),
        ("leads.pursue", True, InvalidInput),
        ("leads.pursue", "0.5", InvalidInput),
        ("leads.pursue", float("nan"), InvalidInput),
        ("leads.pursue", float("inf"), InvalidInput),
        ("kill.leads", "true", InvalidInput),
        ("kill.leads", 1, InvalidInput),
    ],
)
async def test_a_wrong_name_or_type_is_refused(
    db: Database, flags: Flags, name: str, value: Any, error: type[Exception]
) -> None:
    async with db.operator_transaction() as session:
        with pytest.raises(error):
            await flags.set(session, admin(), name, value)


async def test_a_whole_number_fits_a_number(db: Database, flags: Flags) -> None:
    await put(db, flags, admin(), "leads.pursue", 1)
    assert flags.number("leads.pursue", "acme") == 1.0


@pytest.mark.parametrize("tenant", ["other", "*"])
async def test_only_the_operator_sets_for_others(db: Database, flags: Flags, tenant: str) -> None:
    async with db.operator_transaction() as session:
        with pytest.raises(Forbidden):
            await flags.set(session, admin(), "kill.leads", True, tenant)
        await flags.set(session, OPERATOR, "kill.leads", True, tenant)


async def test_setting_needs_an_admin(db: Database, flags: Flags) -> None:
    async with db.operator_transaction() as session:
        with pytest.raises(Forbidden, match="admin"):
            await flags.set(session, Principal("acme", "key_2", Role.AGENT), "kill.leads", True)


async def test_setting_is_audited_and_signed(db: Database, flags: Flags, clock: StillClock) -> None:
    await put(db, flags, OPERATOR, "kill.leads", True, "acme")
    async with db.operator_reading() as session:
        entry = (await session.scalars(select(AuditEntry))).one()
        row = (await session.scalars(select(FlagRow))).one()
        assert (await verify(session)).ok
    assert (entry.tenant_id, entry.actor, entry.action, entry.subject) == ("*", "cli", "flag.set", "kill.leads")
    assert entry.data == '{"tenant":"acme","value":true}'
    assert (row.updated_by, row.updated_at) == ("cli", clock.now)


async def test_rows_that_this_version_does_not_understand_count_for_nothing(db: Database, flags: Flags) -> None:
    await put(db, flags, admin(), "leads.pursue", 0.9)
    async with db.operator_transaction() as session:
        await session.execute(update(FlagRow).values(value="high"))
        session.add(FlagRow(name="old.flag", tenant="*", value=1, updated_at=flags.refreshed_at, updated_by="x"))
    await flags.refresh()
    assert flags.number("leads.pursue", "acme") == 0.5


async def test_a_flag_declared_after_the_refresh_has_its_set_value(
    db: Database, flags: Flags, clock: StillClock
) -> None:
    await put(db, flags, admin(), "leads.greeting", "short")
    late = Flags(db, clock)
    await late.refresh()
    late.declare(*SPECS)
    assert late.text("leads.greeting", "acme") == "short"


def test_one_name_cannot_mean_two_things(flags: Flags) -> None:
    flags.declare(*SPECS)
    with pytest.raises(Conflict, match="declared twice"):
        flags.declare(FlagSpec("leads.pursue", 0.6, "From which score on."))


async def test_the_switches_show_in_the_metrics(db: Database, clock: StillClock) -> None:
    metrics = Metrics(CollectorRegistry())
    flags = declared(db, clock, metrics=metrics)
    await put(db, flags, OPERATOR, "kill.leads", True)
    await put(db, flags, admin(), "kill.chat", True)
    values = {
        name: metrics.registry.get_sample_value("trellis_kill_switch", {"name": name})
        for name in ("all", "leads", "chat")
    }
    assert values == {"all": 0, "leads": 1, "chat": 0}


async def test_openfeature_clients_see_the_same_flags(db: Database, flags: Flags) -> None:
    await put(db, flags, admin(), "leads.greeting", "short")
    await put(db, flags, admin(), "leads.pursue", 2)
    api.set_provider_and_wait(FlagProvider(flags), domain="test")
    try:
        client, acme = api.get_client(domain="test"), EvaluationContext(targeting_key="acme")
        assert client.get_string_value("leads.greeting", "?", acme) == "short"
        assert client.get_boolean_value("leads.follow_up", False, acme) is True
        assert client.get_float_value("leads.pursue", 0.0, acme) == 2.0
        assert client.get_integer_value("leads.pursue", 0, acme) == 2
        assert await client.get_boolean_value_async("kill.all", True, acme) is False
        assert client.get_string_details("leads.nothing", "?", acme).error_code == "FLAG_NOT_FOUND"
        assert client.get_string_details("leads.greeting", "?").error_code == "TARGETING_KEY_MISSING"
        assert client.get_integer_details("leads.follow_up", 0, acme).error_code == "TYPE_MISMATCH"
        assert client.get_object_details("leads.greeting", {}, acme).error_code == "TYPE_MISMATCH"
    finally:
        api.clear_providers()
