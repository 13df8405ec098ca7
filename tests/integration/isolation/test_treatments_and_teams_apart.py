"""Two tenants with customers, clients and keys of the same names: no word or id of one is ever seen by the other."""

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

from app.storage.base import Base
from tests.support.host import Host, hosted, sequences
from tests.support.service import Service

MARKS = ("aquilone", "borealis")
RUNS, RESERVATIONS = "/v1/treatments/runs", "/v1/treatments/reservations"
CUSTOMERS, CLIENTS, QUESTIONS = "/v1/treatments/customers", "/v1/teams/clients", "/v1/teams/questions"
ENDED = ("done", "failed", "cancelled")
NUMBER = count()
WAIT_S = 60
RULES = sequences(5)
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosted(tmp_path_factory.mktemp("apart")) as host:
        yield host


@dataclass
class Party:
    """One tenant: the word that stands in its own data alone, and every id that it was given, by kind."""

    service: Service
    tenant: str
    mark: str
    headers: Mapping[str, str]
    ids: dict[str, list[str]] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)

    async def call(self, method: str, path: str, **sent: Any) -> Any:
        sent["headers"] = {**self.headers, **sent.get("headers", {})}
        answer = await self.service.client.request(method, path, **sent)
        assert answer.status_code < 500, answer.text
        self.answers.append(answer.text)
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text

    def note(self, kind: str, found: str) -> None:
        self.ids.setdefault(kind, []).append(found)

    def newest(self, kind: str) -> str:
        return self.ids.get(kind, [f"{kind}_00000000000000000000000000"])[-1]


async def party(service: Service, mark: str) -> Party:
    """A new tenant with a catalogue, two customers and a client, called as the other's are."""
    tenant = f"{mark}-{next(NUMBER)}"
    me = Party(service, tenant, mark, {"Authorization": f"Bearer {await service.other_tenant(tenant)}"})
    call = {"name": "call_back", "title": f"A call of {mark}", "cost_usd": 1, "base_chance": 0.3, "capacity_per_day": 1}
    catalogue = {"treatments": [call], "traits": ["hobby"], "control_share": 0}
    await me.call("PUT", "/v1/treatments/catalogue", json=catalogue)
    visit = {"at": "2026-02-01T00:00:00Z", "kind": "visit", "text": f"asked {mark}"}
    people = [
        {"external_id": f"c{n}", "email": "ada@example.org", "worth_usd": 100, "attributes": {"hobby": hobby}}
        for n, hobby in enumerate((mark, "chess"))
    ]
    await me.call("PUT", CUSTOMERS, json=[one | {"events": [visit]} for one in people])
    page = await me.call("GET", CUSTOMERS)
    me.ids["customer"] = [one["id"] for one in page["items"]]
    said = {"key": "m-1", "kind": "message", "at": "2026-02-01T00:00:00Z", "text": f"{mark} is broken, bad, awful."}
    await me.call("PUT", CLIENTS, json=[{"external_id": "cl-1", "name": "Example Dairy", "signals": [said]}])
    me.ids["client"] = [(await me.call("GET", f"{CLIENTS}/cl-1"))["id"]]
    return me


async def decides(me: Party, _pick: int) -> None:
    key = {"Idempotency-Key": f"run-{len(me.ids.get('run', []))}"}
    run = await me.call("POST", RUNS, json={"all": True}, headers=key)
    async with asyncio.timeout(WAIT_S):
        while (await me.call("GET", f"{RUNS}/{run['id']}"))["state"] not in ENDED:
            await asyncio.sleep(0.05)
    me.note("run", run["id"])


async def allocates(me: Party, _pick: int) -> None:
    made = await me.call("POST", f"{RUNS}/{me.newest('run')}/allocations")
    if "number" in made:
        me.note("allocation", made["id"])


async def reserves(me: Party, pick: int) -> None:
    body = {"treatment": "call_back", "key": f"k-{pick}", "note": me.mark}
    made = await me.call("POST", RESERVATIONS, json=body, headers={"Idempotency-Key": f"reserve-{pick}"})
    if "id" in made:
        me.note("reservation", made["id"])
        await me.call("POST", f"{RESERVATIONS}/{made['id']}/{('confirm', 'release')[pick % 2]}")


async def records(me: Party, pick: int) -> None:
    known = {"key": f"o-{pick}", "customer": f"c{pick % 2}", "treatment": "call_back", "at": "2026-03-01T00:00:00Z"}
    await me.call("POST", "/v1/treatments/outcomes", json=[{**known, "success": bool(pick % 2)}])


async def asks(me: Party, pick: int) -> None:
    team, question = (("client_health", "What did Example Dairy write?"), ("sales_intelligence", "Why c0?"))[pick % 2]
    subject = ("cl-1", "c0")[pick % 2]
    asked = await me.call("POST", f"/v1/teams/{team}/ask", json={"question": question, "subject": subject})
    if "id" in asked:
        me.note("question", asked["id"])


async def scores(me: Party, _pick: int) -> None:
    await me.call("POST", f"{CLIENTS}/cl-1/score")


async def asks_by_mcp(me: Party, _pick: int) -> None:
    await mcp(me, "treatment_decision", customer="c0", decisions=5)
    await mcp(me, "treatment_run", run_id=me.newest("run"))
    await mcp(me, "client_list")
    await mcp(me, "client_health", client="Example Dairy")


async def mcp(me: Party, tool: str, **args: Any) -> str:
    params = {"name": tool, "arguments": args}
    answer = await me.call("POST", "/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    return json.dumps(answer)


async def reads(me: Party, _pick: int) -> None:
    run = f"{RUNS}/{me.newest('run')}"
    for path in (
        *(CUSTOMERS, f"{CUSTOMERS}/c0", f"{CUSTOMERS}/c0/story", "/v1/treatments/catalogue", RUNS, run, RESERVATIONS),
        *(f"{run}/{part}" for part in ("results", "results/c0", "results.csv", "allocations", "queue", "evaluation")),
        *("/v1/treatments/capacity", "/v1/treatments/forecast", f"{RESERVATIONS}?customer=c0"),
        *(CLIENTS, f"{CLIENTS}/cl-1", f"{CLIENTS}/cl-1/history", QUESTIONS, f"{QUESTIONS}/{me.newest('question')}"),
    ):
        await me.call("GET", path)


async def is_erased(me: Party, _pick: int) -> None:
    """Whom both tenants know by the same address goes with one of them alone."""
    await me.call("DELETE", "/v1/people/ada@example.org")


OWN = (decides, allocates, reserves, records, asks, scores, asks_by_mcp, reads)


async def pries(me: Party, other: Party, _pick: int) -> None:
    """Every address that takes an id, with the other's: answered as for an id that nobody has."""
    run, customer, client = other.newest("run"), other.newest("customer"), other.newest("client")
    reservation, question = other.newest("reservation"), other.newest("question")
    reading = (
        "",
        "/results",
        "/results/c0",
        "/results.csv",
        "/results.parquet",
        "/allocations",
        "/queue",
        "/evaluation",
    )
    tries = [("GET", f"{RUNS}/{{}}{part}", run) for part in reading]
    tries += [("POST", f"{RUNS}/{{}}/{verb}", run) for verb in ("pause", "cancel", "resume", "allocations")]
    tries += [("POST", f"{RESERVATIONS}/{{}}/{verb}", reservation) for verb in ("confirm", "release")]
    tries += [("GET", f"{CUSTOMERS}/{{}}", customer), ("GET", f"{CUSTOMERS}/{{}}/story", customer)]
    tries += [("DELETE", f"{CUSTOMERS}/{{}}", customer), ("GET", f"{RESERVATIONS}?customer={{}}", customer)]
    tries += [("GET", f"{RUNS}/{me.newest('run')}/results/{{}}", customer)] if "run" in me.ids else []
    tries += [("GET", f"{CLIENTS}/{{}}{part}", client) for part in ("", "/history")]
    tries += [("POST", f"{CLIENTS}/{{}}/score", client), ("DELETE", f"{CLIENTS}/{{}}", client)]
    tries += [("GET", f"{QUESTIONS}/{{}}", question)]
    for method, path, found in tries:
        absent = f"{found[:-4]}zzzz"
        answers = [
            await me.service.client.request(method, path.format(one), headers=me.headers) for one in (found, absent)
        ]
        assert [answer.status_code for answer in answers] == [404, 404], (method, path, answers[0].text)
        _alike(answers, found, absent)
    for tool, name, found in (
        ("treatment_run", "run_id", run),
        ("treatment_decision", "customer", customer),
        ("client_health", "client", client),
    ):
        absent = f"{found[:-4]}zzzz"
        assert (await mcp(me, tool, **{name: found})).replace(found, absent) == await mcp(me, tool, **{name: absent})
        me.answers[-2:] = []
    wrong = {"key": "o-other", "customer": "c0", "treatment": "call_back", "at": "2026-03-01T00:00:00Z"}
    body = [{**wrong, "run_id": run, "success": True}]
    refused = await me.service.client.post("/v1/treatments/outcomes", json=body, headers=me.headers)
    assert refused.status_code == 422, refused.text
    for cursor, path in ((run, RUNS), (customer, CUSTOMERS), (reservation, RESERVATIONS), (client, CLIENTS)):
        await me.call("GET", f"{path}?cursor={cursor}")


def _alike(answers: list[httpx2.Response], found: str, absent: str) -> None:
    said = [answer.json() | {"instance": ""} for answer in answers]
    assert json.dumps(said[0]).replace(found, absent) == json.dumps(said[1])


def keeps_to_itself(me: Party, other: Party) -> None:
    secrets = [other.mark, other.tenant, *(one for ids in other.ids.values() for one in ids)]
    for answer in me.answers:
        assert not [secret for secret in secrets if secret in answer], answer


async def rows_keep_to_themselves(service: Service, one: Party, two: Party) -> None:
    """No row of either, in any table, holds a word or an id of the other."""
    tables = [table for table in Base.metadata.sorted_tables if table.name.startswith(("treatment_", "team_"))]
    assert len(tables) > 15
    for table in tables:
        for row in await service.rows(table.name):
            for me, other in ((one, two), (two, one)):
                if row["tenant_id"] == me.tenant:
                    text = repr(row)
                    secrets = [other.mark, *(found for ids in other.ids.values() for found in ids)]
                    assert not [secret for secret in secrets if secret in text], (table.name, row)


steps = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([*OWN, pries]), st.integers(0, 3)), min_size=6, max_size=14
)


async def follow(service: Service, sequence: list[tuple[int, Any, int]]) -> None:
    parties = [await party(service, mark) for mark in MARKS]
    for who, step, pick in [(0, decides, 0), (1, decides, 0), (0, asks, 0), (1, reserves, 0), *sequence]:
        me, other = parties[who], parties[1 - who]
        await (step(me, other, pick) if step is pries else step(me, pick))
    for me, other in (parties, parties[::-1]):
        await reads(me, 0)
        await pries(me, other, 0)
        assert any(me.mark in answer for answer in me.answers)
    for me, other in (parties, parties[::-1]):
        keeps_to_itself(me, other)
    await rows_keep_to_themselves(service, *parties)
    one, two = parties
    await is_erased(one, 0)
    assert (await one.call("GET", CUSTOMERS))["items"] == []
    assert len((await two.call("GET", CUSTOMERS))["items"]) == 2
    assert (await two.call("GET", f"{CUSTOMERS}/c0/story"))["decisions_total"] == len(two.ids["run"])


def test_nothing_of_one_tenants_treatments_and_teams_is_ever_seen_by_the_other(host: Host) -> None:
    @RULES
    @given(sequence=steps)
    def rule(sequence: list[tuple[int, Any, int]]) -> None:
        host.portal.call(follow, host.service, sequence)

    rule()
