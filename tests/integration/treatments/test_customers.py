"""Customers, outcomes and the catalogue over HTTP; the data and the journey agent over what was put in."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select, update

from app.ids import new_id
from app.packs.treatments.data_stage import DataStage
from app.packs.treatments.journey_stage import JourneyStage
from app.packs.treatments.models import (
    Case,
    Customer,
    CustomerEvent,
    Reservation,
    ReservationState,
    Run,
    RunMember,
)
from app.packs.treatments.stages import DataAnswered, DataAsked, Journey, JourneyAsked
from app.principal import Principal, Role
from tests.support.service import Service, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

CUSTOMERS = "/v1/treatments/customers"
OUTCOMES = "/v1/treatments/outcomes"
CATALOGUE = "/v1/treatments/catalogue"
AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
TREATMENTS = [
    {"name": "call_back", "title": "A call", "cost_usd": 4, "capacity_per_day": 2, "cooldown_days": 30},
    {"name": "email", "title": "An e-mail"},
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with running(tmp_path_factory.mktemp("treatments"), knowledge=False) as service:
        yield service


class House:
    """A tenant of its own with a catalogue, for one test."""

    def __init__(self, service: Service, tenant: str, key: str) -> None:
        self.service, self.tenant = service, tenant
        self.headers = {"Authorization": f"Bearer {key}"}

    async def call(self, method: str, path: str, status: int = 200, **sent: Any) -> Any:
        answer = await self.service.client.request(method, path, headers=self.headers, **sent)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def put(self, *customers: dict[str, Any], status: int = 200) -> Any:
        return await self.call("PUT", CUSTOMERS, status, json=list(customers))

    async def record(self, *outcomes: dict[str, Any], status: int = 200) -> Any:
        return await self.call("POST", OUTCOMES, status, json=list(outcomes))

    async def rows(self, model: Any) -> list[Any]:
        async with self.service.container.db.operator_reading() as session:
            return list(await session.scalars(select(model).where(model.tenant_id == self.tenant).order_by(model.id)))

    async def add(self, *rows: Any) -> None:
        async with self.service.container.db.operator_transaction() as session:
            for row in rows:
                row.tenant_id = self.tenant
                session.add(row)

    async def run(self, as_of: datetime = AT, **scope: Any) -> str:
        run_id = new_id("run")
        now = self.service.container.clock()
        some = {"state": "running", "scope": scope or {"all": True}, "seed": 1, "control_share": 0.0}
        await self.add(Run(id=run_id, created_at=now, catalogue_version=1, as_of=as_of, created_by="test", **some))
        return run_id

    async def data(self, run_id: str, after: str = "", until: str = "z") -> DataAnswered:
        return await DataStage(self.service.container.kit).handle(DataAsked(self.tenant, run_id, after, until))

    async def journeys(self, run_id: str, as_of: datetime = AT) -> list[Journey]:
        data = await self.data(run_id)
        asked = JourneyAsked(self.tenant, run_id, as_of, 1, data.histories)
        return (await JourneyStage(self.service.container.kit).handle(asked)).journeys


@pytest_asyncio.fixture(loop_scope="module")
async def house(service: Service) -> House:
    tenant = new_id("house").replace("_", "-")
    house = House(service, tenant, await service.other_tenant(tenant))
    await house.call("PUT", CATALOGUE, json={"treatments": TREATMENTS, "traits": ["plan"]})
    return house


def event(key: str, days_before: float, kind: str = "visit", **more: Any) -> dict[str, Any]:
    return {"key": key, "at": (AT - timedelta(days=days_before)).isoformat(), "kind": kind, **more}


def customer(name: str, *events: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"external_id": name, "worth_usd": 100, "attributes": {"plan": "plus"}, "events": list(events), **more}


def outcome(key: str, name: str, treatment: str = "call_back", success: bool = False, **more: Any) -> dict[str, Any]:
    fields = {"key": key, "customer": name, "treatment": treatment, "success": success, "at": AT.isoformat()}
    return fields | more


async def test_the_same_body_again_changes_nothing(house: House) -> None:
    body = [customer(f"c-{n}", event("e1", 3), event("e2", 2, "buy", amount_usd=9.5)) for n in range(600)]
    assert await house.put(*body) == {"new": 600, "changed": 0, "unchanged": 0, "events_new": 1200}
    before = [(row.id, row.updated_at) for row in await house.rows(Customer)]
    assert await house.put(*body) == {"new": 0, "changed": 0, "unchanged": 600, "events_new": 0}
    assert [(row.id, row.updated_at) for row in await house.rows(Customer)] == before
    changed = customer("c-7", event("e3", 1), worth_usd=7.5, email="Ada@Example.org")
    assert await house.put(changed, body[8]) == {"new": 0, "changed": 1, "unchanged": 1, "events_new": 1}
    seen = await house.call("GET", f"{CUSTOMERS}/c-7")
    assert (seen["worth_usd"], seen["email"], seen["events_total"]) == (7.5, "ada@example.org", 3)
    assert [one["key"] for one in seen["events"]] == ["e3", "e2", "e1"]
    assert seen["events"][1]["amount_usd"] == 9.5
    assert await house.call("GET", f"{CUSTOMERS}/{seen['id']}") == seen


async def test_all_of_the_body_or_nothing(house: House) -> None:
    lines = [json.dumps(customer(f"c-{n}")) for n in range(300)]
    sent = "\n".join([*lines, '{"external_id": "c-x"}'])
    headers = {**house.headers, "Content-Type": "application/x-ndjson"}
    answer = await house.service.client.put(CUSTOMERS, headers=headers, content=sent)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("Line 301: 'worth_usd'")
    twice = await house.put(*(customer(f"c-{n % 299}") for n in range(300)), status=422)
    assert "c-0 is in the import twice" in twice["detail"]
    keys = await house.put(customer("c-1", event("e", 1), event("e", 2)), status=422)
    assert "two events with the key 'e'" in keys["detail"]
    assert await house.rows(Customer) == await house.rows(CustomerEvent) == []


async def test_lists_page_and_know_segments(house: House) -> None:
    await house.put(*(customer(f"c-{n}", segment="gold" if n % 2 else "") for n in range(7)))
    first = await house.call("GET", f"{CUSTOMERS}?limit=4")
    rest = await house.call("GET", f"{CUSTOMERS}?limit=4&cursor={first['next_cursor']}")
    names = [one["external_id"] for one in first["items"] + rest["items"]]
    assert names == [f"c-{n}" for n in range(6, -1, -1)]
    assert rest["next_cursor"] is None
    gold = await house.call("GET", f"{CUSTOMERS}?segment=gold")
    assert [one["external_id"] for one in gold["items"]] == ["c-5", "c-3", "c-1"]


async def test_roles_and_tenants(house: House) -> None:
    await house.put(customer("c-1"))
    viewer = {"Authorization": f"Bearer {await house.service.key_with(Role.VIEWER)}"}
    agent = {"Authorization": f"Bearer {await house.service.key_with(Role.AGENT)}"}
    client = house.service.client
    for method, path, body in (
        ("PUT", CUSTOMERS, [customer("c-1")]),
        ("DELETE", f"{CUSTOMERS}/c-1", None),
        ("POST", OUTCOMES, [outcome("k", "c-1")]),
    ):
        assert (await client.request(method, path, headers=viewer, json=body)).status_code == 403
    assert (await client.put(CATALOGUE, headers=agent, json={"treatments": TREATMENTS})).status_code == 403
    assert (await client.get(CUSTOMERS, headers=viewer)).json()["items"] == []
    for method in ("GET", "DELETE"):
        assert (await client.request(method, f"{CUSTOMERS}/c-1", headers=agent)).status_code == 404
    assert len(await house.rows(Customer)) == 1


async def test_a_catalogue_has_a_new_version_only_where_it_changed(house: House) -> None:
    same = await house.call("PUT", CATALOGUE, json={"treatments": TREATMENTS, "traits": ["plan"]})
    assert (same["version"], same["changed"]) == (1, False)
    other = await house.call("PUT", CATALOGUE, json={"treatments": TREATMENTS[:1], "budget_usd_per_day": 9})
    assert (other["version"], other["changed"]) == (2, True)
    assert (await house.call("GET", CATALOGUE))["catalogue"]["budget_usd_per_day"] == 9
    assert len((await house.call("GET", f"{CATALOGUE}?version=1"))["catalogue"]["treatments"]) == 2
    listed = await house.call("GET", f"{CATALOGUE}/versions")
    assert [(one["version"], one["treatments"]) for one in listed["items"]] == [
        (2, ["call_back"]),
        (1, ["call_back", "email"]),
    ]
    await house.call("GET", f"{CATALOGUE}?version=3", 404)
    await house.call("PUT", CATALOGUE, 422, json={"treatments": TREATMENTS * 2})


async def test_outcomes_count_once_and_name_what_is_not_there(house: House) -> None:
    await house.put(customer("c-1"))
    for wrong, said in (
        (outcome("k", "c-9"), "'c-9', who is not there"),
        (outcome("k", "c-1", "fax"), "no treatment 'fax'"),
        (outcome("k", "c-1", run_id="run_x"), "no run 'run_x'"),
        (outcome("k", "c-1", at="2199-01-01T00:00:00Z"), "still to come"),
    ):
        assert said in (await house.record(outcome("ok", "c-1"), wrong, status=422))["detail"]
    assert "twice" in (await house.record(outcome("k", "c-1"), outcome("k", "c-1"), status=422))["detail"]
    assert await house.rows(Case) == []
    body = (outcome("k1", "c-1", success=True, value_usd=5), outcome("k2", "c-1", ""))
    assert await house.record(*body) == {"new": 2, "known": 0, "cases": 2}
    assert await house.record(*body) == {"new": 0, "known": 2, "cases": 0}
    assert "another content" in (await house.record(outcome("k1", "c-1"), status=409))["detail"]
    cases = {case.treatment: (case.trials, case.successes) for case in await house.rows(Case)}
    assert cases == {"call_back": (1, 1), "": (1, 0)}


async def test_a_case_is_the_journey_as_it_was_before_its_outcome(house: House) -> None:
    before = [event("e1", 9, "buy", amount_usd=70), event("e2", 3)]
    later = [event("e3", 0, "response"), event("e4", -2, "buy", amount_usd=900), event("e5", -40)]
    await house.put(customer("plain", *before), customer("leaky", *before, *later), customer("other", event("e1", 80)))
    await house.record(outcome("k0", "leaky", "email", True, at=(AT + timedelta(days=1)).isoformat()))
    first = {case.fingerprint for case in await house.rows(Case)}
    await house.record(*(outcome(f"k-{name}", name, success=name == "leaky") for name in ("plain", "leaky", "other")))
    cases = sorted((case.trials, case.successes) for case in await house.rows(Case) if case.treatment == "call_back")
    assert cases == [(1, 0), (2, 1)]
    shared = next(case for case in await house.rows(Case) if case.trials == 2)
    plain = next(one for one in await house.journeys(await house.run(AT)) if one.features["monetary_usd"] == 70)
    assert shared.vector == plain.vector
    assert shared.fingerprint == plain.fingerprint
    assert shared.fingerprint not in first


async def test_an_earlier_outcome_of_the_same_batch_is_known_to_the_later_one(house: House) -> None:
    await house.put(customer("c-1"), customer("c-2"))
    week = (AT + timedelta(days=7)).isoformat()
    await house.record(outcome("k2", "c-1", "email", at=week), outcome("k1", "c-1", success=True))
    await house.record(outcome("k3", "c-2", success=True))
    await house.record(outcome("k4", "c-2", "email", at=week))
    cases = {case.treatment: (case.fingerprint, case.trials) for case in await house.rows(Case)}
    assert len(await house.rows(Case)) == 2
    assert cases["email"][0] != cases["call_back"][0]
    assert cases["email"][1] == cases["call_back"][1] == 2


async def test_data_agent_reads_the_customers_of_the_run_alone(house: House) -> None:
    await house.put(*(customer(f"c-{n}", event("e", 2), segment="gold" if n < 2 else "") for n in range(6)))
    ids = {row.external_id: row.id for row in await house.rows(Customer)}
    everyone, gold, listed = await house.run(), await house.run(segment="gold"), await house.run(listed=True)
    members = [RunMember(id=new_id("member"), created_at=AT, run_id=listed, customer_id=ids[n]) for n in ("c-4", "c-1")]
    await house.add(*members)
    await house.put(customer("late"))

    async def names(run_id: str, **part: str) -> list[str]:
        return [one.external_id for one in (await house.data(run_id, **part)).histories]

    assert await names(everyone) == [f"c-{n}" for n in range(6)]
    assert await names(everyone, after=ids["c-1"], until=ids["c-3"]) == ["c-2", "c-3"]
    assert await names(gold) == ["c-0", "c-1"]
    assert await names(listed) == ["c-1", "c-4"]


async def test_long_histories_are_read_page_by_page(house: House) -> None:
    def many(count: int) -> list[dict[str, Any]]:
        return [event(f"e{n}", 80 - n / 50, "buy" if n % 10 == 0 else "visit", amount_usd=n) for n in range(count)]

    # 999, then one that ends a page, one over three pages, with the same moment at the seam, one after it.
    same = [event(f"s{n}", 40.0) for n in range(1500)]
    await house.put(
        customer("a", *many(999)), customer("b", *many(1)), customer("c", *many(1200), *same), customer("d")
    )
    await house.put(customer("e", *many(3)))
    answered = await house.data(await house.run())
    assert [one.total for one in answered.histories] == [999, 1, 2700, 0, 3]
    assert [sum(one.weeks) for one in answered.histories] == [999, 1, 2700, 0, 3]
    assert [len(one.events) for one in answered.histories] == [40, 1, 40, 0, 3]
    assert answered.histories[2].amount_micros == sum(range(1200)) * 1_000_000
    assert all(one.events == sorted(one.events, key=lambda seen: seen.at) for one in answered.histories)
    again = await house.data(await house.run())
    assert [one.digest for one in again.histories] == [one.digest for one in answered.histories]


async def test_a_broken_customer_is_set_aside_and_the_others_go_on(house: House) -> None:
    await house.put(*(customer(f"c-{n}") for n in range(5)))
    rows = await house.rows(Customer)
    broken = (
        {"attributes": ["no object"]},
        {"attributes": {"a": {"b": 1}}},
        {"worth_micros": -5},
        {"attributes": {"a": 1e300}},
    )
    async with house.service.container.db.operator_transaction() as session:
        for row, values in zip(rows, broken, strict=False):
            await session.execute(update(Customer).where(Customer.id == row.id).values(**values))
    answered = await house.data(await house.run())
    assert [one.external_id for one in answered.histories] == ["c-4"]
    assert [(one.customer_id, one.stage) for one in answered.set_aside] == [(row.id, "data") for row in rows[:4]]
    said = " ".join(one.reason for one in answered.set_aside)
    assert all(word in said for word in ("no flat object", "attributes are flat", "worth of -5e-06", "beyond 1e+15"))


async def test_what_a_customer_had_or_has_booked_counts_for_the_cooldown(house: House) -> None:
    await house.put(*(customer(name) for name in ("had", "long-ago", "booked", "held", "never")))
    ids = {row.external_id: row.id for row in await house.rows(Customer)}
    await house.record(
        outcome("k1", "had", at=(AT - timedelta(days=29)).isoformat()),
        outcome("k2", "long-ago", at=(AT - timedelta(days=31)).isoformat()),
        outcome("k3", "never", at=(AT + timedelta(days=1)).isoformat()),
    )
    states = (("booked", ReservationState.CONFIRMED), ("held", ReservationState.HELD))
    shared = {"created_at": AT, "updated_at": AT, "expires_at": AT, "treatment": "call_back"}
    day = (AT + timedelta(days=3)).date()
    await house.add(
        *(
            Reservation(id=new_id("hold"), key=name, customer_id=ids[name], state=state, day=day, **shared)
            for name, state in states
        )
    )
    found = {one.customer_id: one for one in await house.journeys(await house.run())}
    refused = {name: found[ids[name]].refused.get("call_back", "") for name in ids}
    assert "had it on 2026-05-03" in refused["had"]
    assert "booked on 2026-06-04" in refused["booked"]
    assert refused["long-ago"] == refused["held"] == refused["never"] == ""


async def test_deleting_a_customer_takes_all_about_them_and_leaves_counts_of_nobody(house: House) -> None:
    await house.put(customer("c-1", event("e", 2)), customer("c-2", event("e", 2)))
    await house.record(outcome("k1", "c-1"), outcome("k2", "c-2"))
    await house.call("DELETE", f"{CUSTOMERS}/c-1", 204)
    await house.call("DELETE", f"{CUSTOMERS}/c-1", 404)
    assert [row.external_id for row in await house.rows(Customer)] == ["c-2"]
    assert len(await house.rows(CustomerEvent)) == 1
    assert [case.trials for case in await house.rows(Case)] == [2]
    entries = [row for row in await house.service.rows("audit_entries") if row["tenant_id"] == house.tenant]
    assert [row["action"] for row in entries if row["action"].startswith("treatments.")] == [
        "treatments.catalogue_put",
        "treatments.customers_imported",
        "treatments.outcomes_recorded",
        "treatments.customer_deleted",
    ]


async def test_the_sample_loads_once_and_every_customer_has_a_journey(service: Service) -> None:
    tenant = "sample-house"
    house = House(service, tenant, await service.other_tenant(tenant))
    load = service.container.runtimes["treatments"].load_sample
    assert load is not None
    principal = Principal(tenant, "test", Role.ADMIN)
    assert (await load(principal), await load(principal)) == (60, 0)
    now = service.container.clock()
    journeys = await house.journeys(await house.run(now), now)
    assert len(journeys) == 60
    assert len({one.fingerprint for one in journeys}) > 20
    assert {name for one in journeys for name in one.allowed} >= {"call_back", "email", "discount", "account_review"}
    assert {one.traits["churn"] for one in journeys} >= {"low", "high", "never"}


async def test_of_a_family_that_shares_an_address_one_can_be_erased(house: House) -> None:
    shared = [customer(name, event("e", 2), email="Family@Example.org") for name in ("p-1", "p-2")]
    await house.put(*shared, customer("p-3", email="alone@example.org"))
    await house.record(outcome("k", "p-1"))
    gone = await house.call("DELETE", "/v1/people/p-1")
    assert gone["erased"]["treatments"] == 3
    assert [row.external_id for row in await house.rows(Customer)] == ["p-2", "p-3"]
    kept = await house.call("GET", "/v1/people/alone@example.org")
    assert [row["external_id"] for row in kept["stores"]["treatments"]] == ["p-3"]
    assert (await house.call("DELETE", "/v1/people/family@example.org"))["erased"]["treatments"] == 2
    assert [row.external_id for row in await house.rows(Customer)] == ["p-3"]
    assert len(await house.rows(Case)) == 1
