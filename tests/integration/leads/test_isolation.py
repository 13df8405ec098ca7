"""Two tenants with the same people, ids and keys on one service, and repeats of every kind: rules that always hold."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.agent.models import ToolMode
from app.packs.leads.tools import BOT
from app.principal import Principal, Role
from app.storage.base import Base
from tests.support.console import visiting
from tests.support.host import Host, hosted, sequences
from tests.support.service import Service, lead

PRICE = "What does the Operate plan cost for 40 sensors on annual billing?"
MEETING = "I want to buy for 30 sensors. Could we have a demonstration meeting on Tuesday at 10:00, please?"
MARKS = ("Aquilone", "Borealis")
FINAL = {"done", "failed", "waiting_approval"}
NUMBER = count()
WAIT_S = 90
RULES = sequences(8)
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosted(tmp_path_factory.mktemp("two")) as host:
        yield host


@dataclass
class Party:
    """One tenant: its key, the word that stands in its own data alone, and every id that it was given."""

    service: Service
    tenant: str
    mark: str
    headers: Mapping[str, str]
    ids: dict[str, list[str]] = field(default_factory=lambda: {"lead": [], "dec": [], "appr": []})
    answers: list[str] = field(default_factory=list)

    async def call(self, method: str, path: str, **sent: Any) -> httpx2.Response:
        sent["headers"] = {**self.headers, **sent.get("headers", {})}
        answer = await self.service.client.request(method, path, **sent)
        assert answer.status_code < 500, answer.text
        self.answers.append(answer.text)
        return answer

    def own(self, kind: str, pick: int) -> str:
        found = self.ids[kind]
        return found[pick % len(found)] if found else f"{kind}_absent"


async def party(service: Service, mark: str) -> Party:
    """A new tenant with one page of its own; its contacts wait for approval."""
    tenant = f"{mark.lower()}-{next(NUMBER)}"
    headers = {"Authorization": f"Bearer {await service.other_tenant(tenant)}"}
    kit = service.container.kit
    page = f"# Prices\n\nThe Operate plan costs €6.90 per sensor and month on annual billing: {mark} prices."
    await kit.ingestor.put(tenant, BOT, "pricing", "Operate plan prices", page)
    async with service.container.db.operator_transaction() as session:
        admin = Principal(tenant, "test", Role.ADMIN)
        await service.container.tool_policies.set(session, admin, "crm_upsert", ToolMode.APPROVE)
    return Party(service, tenant, mark, headers)


async def create(me: Party, pick: int) -> None:
    """The same person, id and key with both tenants; only the company tells them apart."""
    company = me.mark if pick % 2 else "Example Dairy"
    body = lead(external_id=f"x-{pick}", company=company, message=(PRICE, MEETING)[pick % 2])
    answer = await me.call("POST", "/v1/leads", json=body, headers={"Idempotency-Key": f"create-{pick}"})
    if answer.status_code == 201 and "idempotency-replayed" not in answer.headers:
        me.ids["lead"].append(answer.json()["lead"]["id"])


async def batch(me: Party, pick: int) -> None:
    lines = "\n".join(json.dumps(lead(external_id=f"b-{n}", message=PRICE)) for n in range(pick % 3 + 1))
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"batch-{pick}"}
    answer = await me.call("POST", "/v1/leads/batch", content=lines, headers=headers)
    me.ids["lead"] += answer.json().get("lead_ids", []) if "idempotency-replayed" not in answer.headers else []


async def write(me: Party, pick: int) -> None:
    headers = {"Idempotency-Key": f"message-{pick}"}
    await me.call("POST", f"/v1/leads/{me.own('lead', pick)}/messages", json={"body": PRICE}, headers=headers)


async def judge(me: Party, pick: int) -> None:
    lead_id = me.own("lead", pick)
    await me.call("POST", f"/v1/leads/{lead_id}/outcome", json={"kind": "converted", "note": me.mark})
    await me.call("POST", f"/v1/leads/{lead_id}/feedback", json={"thumb": "up", "comment": me.mark})


async def read(me: Party, pick: int) -> None:
    page = (await me.call("GET", f"/v1/leads?limit={pick % 5 + 1}")).json()
    await me.call("GET", f"/v1/leads?email=ada@example.org&cursor={page['next_cursor'] or ''}")
    await me.call("GET", "/v1/leads/counts")
    await me.call("GET", "/v1/metrics/business")
    detail = await me.call("GET", f"/v1/leads/{me.own('lead', pick)}")
    for decision_id in detail.json().get("decisions", []):
        me.ids["dec"].append(decision_id)
        await me.call("GET", f"/v1/decisions/{decision_id}")
    for one in (await me.call("GET", "/v1/approvals")).json()["items"]:
        me.ids["appr"].append(one["id"])


async def search(me: Party, _pick: int) -> None:
    found = await me.service.container.kit.ports.retriever.search(me.tenant, BOT, PRICE)
    me.answers.append(repr(found))


async def approve(me: Party, pick: int) -> None:
    await me.call("POST", f"/v1/approvals/{me.own('appr', pick)}/approve")


OWN = (create, batch, write, judge, read, search, approve)


async def pry(me: Party, other: Party, pick: int) -> None:
    """Every address that takes an id, with the other's: answered as for an id that nobody has."""
    lead_id, decision_id, approval_id = (other.own(kind, pick) for kind in ("lead", "dec", "appr"))
    tries: tuple[tuple[str, str, str, Any], ...] = (
        ("GET", "/v1/leads/{}", lead_id, None),
        ("POST", "/v1/leads/{}/messages", lead_id, {"body": PRICE}),
        ("POST", "/v1/leads/{}/outcome", lead_id, {"kind": "lost"}),
        ("POST", "/v1/leads/{}/feedback", lead_id, {"thumb": "down"}),
        ("GET", "/v1/decisions/{}", decision_id, None),
        ("POST", "/v1/approvals/{}/approve", approval_id, None),
        ("POST", "/v1/approvals/{}/reject", approval_id, None),
    )
    for method, path, found, body in tries:
        absent = f"{found[:-4]}zzzz"
        answers = [
            await me.service.client.request(method, path.format(one), json=body, headers=me.headers)
            for one in (found, absent)
        ]
        assert [answer.status_code for answer in answers] == [404, 404], (path, answers[0].text)
        said = [answer.json() | {"instance": ""} for answer in answers]
        assert json.dumps(said[0]).replace(found, absent) == json.dumps(said[1])
    page = await me.call("GET", f"/v1/leads?cursor={lead_id}")
    assert {item["id"] for item in page.json()["items"]} <= set(me.ids["lead"])
    if me.ids["lead"]:
        wrong = {"thumb": "up", "decision_id": decision_id}
        answer = await me.service.client.post(f"/v1/leads/{me.ids['lead'][0]}/feedback", json=wrong, headers=me.headers)
        assert answer.status_code in (409, 422)


async def settled(service: Service) -> None:
    """Until every lead that was taken in is decided and its writes have run or wait."""
    async with asyncio.timeout(WAIT_S):
        while True:
            decided = {row["trigger_id"] for row in await service.rows("decisions") if row["state"] in FINAL}
            inbound = {row["id"] for row in await service.rows("lead_messages") if row["direction"] == "inbound"}
            if inbound <= decided:
                return
            await asyncio.sleep(0.1)


def keeps_to_itself(me: Party, other: Party) -> None:
    secrets = [other.mark, other.tenant, *other.ids["lead"], *other.ids["dec"], *other.ids["appr"]]
    for answer in me.answers:
        assert not [secret for secret in secrets if secret in answer], answer


async def rows_keep_to_themselves(service: Service, one: Party, two: Party) -> None:
    """No row of either, in any table, holds a word or an id of the other."""
    for table in sorted(Base.metadata.tables):
        if "tenant_id" not in Base.metadata.tables[table].c or "id" not in Base.metadata.tables[table].c:
            continue
        for row in await service.rows(table):
            for me, other in ((one, two), (two, one)):
                if row["tenant_id"] == me.tenant:
                    text = repr(row)
                    assert other.mark not in text, (table, row)
                    assert not [found for found in other.ids["lead"] if found in text], (table, row)


steps = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([*OWN, pry]), st.integers(0, 5)), min_size=8, max_size=18)


async def follow(service: Service, sequence: list[tuple[int, Any, int]]) -> None:
    parties = [await party(service, mark) for mark in MARKS]
    for who, step, pick in [(0, create, 0), (1, create, 0), *sequence]:
        me, other = parties[who], parties[1 - who]
        await (step(me, other, pick) if step is pry else step(me, pick))
    await settled(service)
    for me, other in (parties, parties[::-1]):
        for pick in range(len(me.ids["lead"])):
            await read(me, pick)
        await pry(other, me, 0)
    for me, other in (parties, parties[::-1]):
        keeps_to_itself(me, other)
        # The page that the answer rests on is the tenant's own: else nothing above could have leaked.
        assert any(f"{me.mark} prices" in answer for answer in me.answers)
    await rows_keep_to_themselves(service, *parties)


def test_nothing_of_one_tenant_is_ever_seen_by_the_other(host: Host) -> None:
    @RULES
    @given(sequence=steps)
    def rule(sequence: list[tuple[int, Any, int]]) -> None:
        host.portal.call(follow, host.service, sequence)

    rule()


def test_pages_of_the_console_keep_to_their_tenant(host: Host) -> None:
    host.portal.call(look_around, host.service)


async def look_around(service: Service) -> None:
    one, two = [await party(service, mark) for mark in MARKS]
    for me in (one, two):
        await create(me, 1)
        await create(me, 2)
    await settled(service)
    for me in (one, two):
        for pick in (0, 1):
            await read(me, pick)
    for me, other in ((one, two), (two, one)):
        pages = await visited(service, me, other)
        secrets = [other.mark, *other.ids["lead"], *other.ids["dec"]]
        for path, text in pages.items():
            assert not [secret for secret in secrets if secret in text], path
        assert me.mark in pages["leads"]


async def visited(service: Service, me: Party, other: Party) -> dict[str, str]:
    """The pages that the tenant can open, by path; the other's are not there."""
    app = service.client._transport.app  # type: ignore[attr-defined]
    async with visiting(app) as visitor:
        assert (await visitor.sign_in(me.headers["Authorization"].removeprefix("Bearer "))).status_code == 303
        for path in (f"leads/{other.ids['lead'][0]}", f"decisions/{other.ids['dec'][0]}"):
            assert (await visitor.get(f"/console/{path}")).status_code == 404
        places = ("leads/overview", "leads", "decisions", "approvals", "audit", "outbox", "calendar", "contacts")
        return {path: (await visitor.get(f"/console/{path}")).text for path in places}


@dataclass(frozen=True)
class Target:
    """An endpoint that takes keys: two bodies for it, and the table in which its effect is a row."""

    path: str
    bodies: tuple[Any, Any]
    table: str


TARGETS = (
    Target("/v1/leads", (lead(message="One?"), lead(message="Two?")), "leads"),
    Target("/v1/leads/batch", (json.dumps(lead(message="One?")), json.dumps(lead(message="Two?"))), "leads"),
    Target("/v1/leads/{}/messages", ({"body": "One?"}, {"body": "Two?"}), "lead_messages"),
    Target("/v1/leads/{}/outcome", ({"kind": "lost"}, {"kind": "converted"}), "lead_outcomes"),
    Target("/v1/leads/{}/feedback", ({"thumb": "up"}, {"thumb": "down"}), "lead_feedback"),
)
TABLES = tuple(dict.fromkeys(target.table for target in TARGETS))
repeats = st.lists(
    st.tuples(
        st.sampled_from(TARGETS), st.sampled_from(["k1", "k2", None]), st.integers(0, 1), st.sampled_from([1, 1, 2, 4])
    ),
    min_size=4,
    max_size=12,
)


async def effects(service: Service, tenant: str) -> dict[str, int]:
    """How many rows each endpoint's effect has made; a lead's first message and our answers are not counted."""
    found = {}
    for table in TABLES:
        rows = [row for row in await service.rows(table) if row["tenant_id"] == tenant]
        found[table] = len([row for row in rows if row.get("direction", "inbound") == "inbound"])
    found["lead_messages"] -= found["leads"]
    return found


async def repeat(service: Service, sequence: list[tuple[Target, str | None, int, int]]) -> None:
    me = await party(service, "Repeats")
    await create(me, 0)
    await settled(service)
    given_before: dict[str, tuple[tuple[str, int], str]] = {}
    expected = await effects(service, me.tenant)
    for target, key, body, times in sequence:
        what = (target.path, body)
        answers = await asyncio.gather(*(ask(me, target, key, body) for _ in range(times)))
        codes = [answer.status_code for answer in answers]
        fresh = [a for a in answers if a.is_success and "idempotency-replayed" not in a.headers]
        if key is not None and key in given_before:
            if given_before[key][0] == what:
                assert not fresh
                assert {answer.text for answer in answers} == {given_before[key][1]}
            else:
                assert set(codes) == {422}, codes
        elif key is None:
            assert len(fresh) == times, codes
        else:
            assert len(fresh) == 1, codes
            given_before[key] = (what, fresh[0].text)
            others = [answer for answer in answers if answer is not fresh[0]]
            assert all(a.status_code == 409 or a.text == fresh[0].text for a in others)
            assert all("retry-after" in a.headers for a in others if a.status_code == 409)
        expected[target.table] += len(fresh)
        assert await effects(service, me.tenant) == expected


async def ask(me: Party, target: Target, key: str | None, body: int) -> httpx2.Response:
    headers = dict(me.headers) | ({"Idempotency-Key": key} if key else {})
    sent = target.bodies[body]
    path = target.path.format(me.ids["lead"][0])
    if isinstance(sent, str):
        headers["Content-Type"] = "application/x-ndjson"
        return await me.service.client.post(path, content=sent, headers=headers)
    return await me.service.client.post(path, json=sent, headers=headers)


def test_a_key_has_at_most_one_effect_and_one_answer(host: Host) -> None:
    @RULES
    @given(sequence=repeats)
    def rule(sequence: list[tuple[Target, str | None, int, int]]) -> None:
        host.portal.call(repeat, host.service, sequence)

    rule()
