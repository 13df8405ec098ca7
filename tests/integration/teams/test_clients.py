"""Clients over HTTP: put in, scored, read, deleted; and what the night and the team members make of them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from app.agent.tools import Tool, ToolContext
from app.errors import NotFound
from app.integrations.base import Account, AccountNote, CodeActivity, Company, Ticket
from app.integrations.errors import IntegrationError
from app.jobs.port import JobState
from app.packs.teams.client_tools import MOST_SIGNALS, MOST_WORDS, build_client_tools
from app.packs.teams.health_jobs import HEALTH_JOB, HealthJobs
from app.packs.teams.models import Client
from app.packs.teams.scoring import AFTERWARDS, Scoring
from app.packs.teams.sentiment import SentimentLexicon
from app.packs.teams.syncing import BEFORE, Outages, Syncer
from app.principal import Principal, Role
from tests.support.jobs import until
from tests.support.service import TENANT, Service, running

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
PATH = "/v1/teams/clients"
ADMIN = Principal(TENANT, "test", Role.ADMIN)
AWAY = IntegrationError("HubSpot cannot be reached to read the company: check the network.", retryable=True)
NUMBER = count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with running(tmp_path_factory.mktemp("clients"), knowledge=False) as running_service:
        yield running_service


@pytest.fixture
def name() -> str:
    return f"c-{next(NUMBER)}"


def ago(service: Service, days: float) -> str:
    return (service.container.clock() - timedelta(days=days)).isoformat()


def a_client(service: Service, name: str, **more: Any) -> dict[str, Any]:
    """A client with activity of a year, a solved and an open ticket, and a friendly message."""
    signals = [
        {"key": f"a-{week}", "kind": "activity", "at": ago(service, 7 * week + 1), "quantity": 10} for week in range(30)
    ]
    signals += [
        {"key": "t-1", "kind": "ticket_opened", "at": ago(service, 9), "ref": "T1", "text": "Old"},
        {"key": "t-2", "kind": "ticket_solved", "at": ago(service, 8), "ref": "T1"},
        {"key": "t-3", "kind": "ticket_opened", "at": ago(service, 5), "ref": "T2", "priority": "high", "text": "New"},
        {"key": "m-1", "kind": "message", "at": ago(service, 2), "text": "We are very happy, thanks for the help."},
    ]
    return {"external_id": name, "name": name.upper(), "signals": signals} | more


async def put(service: Service, *clients: dict[str, Any]) -> dict[str, Any]:
    answer = await service.client.put(PATH, json=list(clients))
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    return report


async def test_the_same_clients_again_change_nothing(service: Service, name: str) -> None:
    client = a_client(service, name, email="ana@rivera.example", repository="acme/shop", attributes={"tier": "gold"})
    first, again = await put(service, client), await put(service, client)
    assert first == {"clients": {"new": 1, "changed": 0, "unchanged": 0}, "new_signals": 34, "known_signals": 0}
    assert again == {"clients": {"new": 0, "changed": 0, "unchanged": 1}, "new_signals": 0, "known_signals": 34}
    changed = await put(service, {"external_id": name, "crm_id": "501"})
    assert changed["clients"]["changed"] == 1
    found = (await service.client.get(f"{PATH}/{name}")).json()
    assert (found["crm_id"], found["email"], found["attributes"]) == ("501", "ana@rivera.example", {"tier": "gold"})
    entries = [entry for entry in await service.rows("audit_entries") if entry["action"] == "teams.clients_put"]
    assert entries
    assert "ana@" not in str(entries)


async def test_a_csv_brings_the_same(service: Service, name: str) -> None:
    lines = (
        "external_id,name,email,key,kind,at,quantity,ref,priority,text",
        f"{name},Rivera,ana@rivera.example,a-1,activity,{ago(service, 3)},4,,,",
        f'{name},,,m-1,message,{ago(service, 2)},,,,"Great, thanks for all."',
    )
    for known in (0, 2):
        answer = await service.client.put(PATH, content="\n".join(lines), headers={"Content-Type": "text/csv"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["known_signals"] == known
    found = (await service.client.get(f"{PATH}/{name}")).json()
    assert (found["name"], found["email"], found["health"]) == ("Rivera", "ana@rivera.example", None)


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        ('[{"external_id": "new-one"}]', "application/json", 422, "'new-one' is new: give its 'name'"),
        ('[{"external_id": "x", "name": "X"}, {"external_id": "x"}]', "application/json", 422, "twice"),
        ("[]", "application/json", 422, "at least 1 item"),
        ("{", "application/json", 400, "not valid JSON"),
        ('[{"external_id": "x", "name": "X", "repository": "nowhere"}]', "application/json", 422, "owner and name"),
        ('[{"external_id": "x", "name": "X", "email": "nobody"}]', "application/json", 422, "e-mail address"),
        ("external_id,colour\nx,red\n", "text/csv", 422, "has the column 'colour'"),
        ("external_id,name\nx\n", "text/csv", 422, "Line 2 has more or fewer"),
        (b"\xff\xfe", "text/csv", 400, "not UTF-8"),
        ("x", "text/plain", 415, "application/json or text/csv"),
    ],
)
async def test_what_is_wrong_is_named(service: Service, body: Any, kind: str, status: int, words: str) -> None:
    answer = await service.client.put(PATH, content=body, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("signal", "words"),
    [
        ({"kind": "ticket_opened"}, "a ticket needs 'ref'"),
        ({"kind": "message"}, "a message needs 'text'"),
        ({"kind": "activity", "quantity": -1}, "greater than or equal to 0"),
        ({"kind": "activity", "at": "2026-01-01T00:00:00"}, "timezone"),
        ({"kind": "gossip"}, "'activity'"),
    ],
)
async def test_a_signal_that_says_nothing_is_refused_with_all_of_its_body(
    service: Service, name: str, signal: dict[str, Any], words: str
) -> None:
    whole = {"key": "k", "at": "2026-01-01T00:00:00Z"} | signal
    answer = await service.client.put(PATH, json=[{"external_id": name, "name": "X", "signals": [whole]}])
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert (await service.client.get(f"{PATH}/{name}")).status_code == 404


async def test_a_score_is_explained_factor_by_factor_and_has_a_trend(service: Service, name: str) -> None:
    await put(service, a_client(service, name))
    answer = await service.client.post(f"{PATH}/{name}/score")
    assert answer.status_code == 201, answer.text
    score = answer.json()
    assert [one["name"] for one in score["factors"]] == ["activity", "tickets", "sentiment"]
    assert sum(one["points"] for one in score["factors"]) == pytest.approx(score["score"], abs=0.02)
    assert "Open tickets: 1 (high or urgent: 1" in score["factors"][1]["sentence"]
    assert (score["state"], score["method"], score["notes"]) == ("healthy", "rules-1", [])
    assert score["trend"]["change"] == pytest.approx(score["score"] - score["trend"]["then"], abs=0.02)
    assert (await service.client.get(f"{PATH}/{name}")).json()["health"] == score
    history = (await service.client.get(f"{PATH}/{name}/history")).json()["items"]
    assert [one["notes"] for one in history] == [[], [AFTERWARDS]]
    await service.client.post(f"{PATH}/{name}/score")
    pages = [(await service.client.get(f"{PATH}/{name}/history?limit=2")).json()]
    pages.append((await service.client.get(f"{PATH}/{name}/history?cursor={pages[0]['next_cursor']}")).json())
    assert [len(page["items"]) for page in pages] == [2, 1]


async def test_a_client_of_whom_nothing_is_known_cannot_be_scored(service: Service, name: str) -> None:
    await put(service, {"external_id": name, "name": "X"})
    answer = await service.client.post(f"{PATH}/{name}/score")
    assert answer.status_code == 404
    assert "put in some of its signals" in answer.json()["detail"]


async def test_the_list_shows_scores_and_is_narrowed_by_state_and_name(service: Service, name: str) -> None:
    silent = {"key": "a", "kind": "activity", "at": ago(service, 200)}
    await put(
        service, a_client(service, name), {"external_id": f"{name}-b", "name": f"{name} 100%", "signals": [silent]}
    )
    for one in (name, f"{name}-b"):
        assert (await service.client.post(f"{PATH}/{one}/score")).status_code == 201
    found = (await service.client.get(f"{PATH}?state=at_risk&limit=200")).json()["items"]
    assert f"{name}-b" in {one["external_id"] for one in found}
    assert {one["health"]["state"] for one in found} == {"at_risk"}
    [one] = (await service.client.get(PATH, params={"name": f"{name} 100%"})).json()["items"]
    assert one["health"]["score"] == 0.0


async def test_a_deleted_client_leaves_nothing(service: Service, name: str) -> None:
    await put(service, a_client(service, name))
    await service.client.post(f"{PATH}/{name}/score")
    client_id = (await service.client.get(f"{PATH}/{name}")).json()["id"]
    assert (await service.client.delete(f"{PATH}/{name}")).status_code == 204
    assert (await service.client.delete(f"{PATH}/{name}")).status_code == 404
    for table in ("team_client_signals", "team_health_scores"):
        assert client_id not in {row["client_id"] for row in await service.rows(table)}


async def test_another_tenant_and_a_lesser_key_get_no_further(service: Service, name: str) -> None:
    await put(service, a_client(service, name))
    rival = {"Authorization": f"Bearer {await service.other_tenant('rival-' + name)}"}
    for method, path in (("GET", ""), ("GET", "/history"), ("POST", "/score"), ("DELETE", "")):
        answer = await service.client.request(method, f"{PATH}/{name}{path}", headers=rival)
        assert answer.status_code == 404, (method, path)
    assert (await service.client.get(PATH, headers=rival)).json()["items"] == []
    viewer = {"Authorization": f"Bearer {await service.key_with(Role.VIEWER)}"}
    assert (await service.client.get(f"{PATH}/{name}", headers=viewer)).status_code == 200
    for method, path in (("PUT", PATH), ("POST", f"{PATH}/{name}/score"), ("DELETE", f"{PATH}/{name}")):
        answer = await service.client.request(method, path, headers=viewer, json=[])
        assert answer.status_code == 403, (method, path)


class Crm:
    """An account context that says what it is told to, and counts how often it is asked."""

    name = "crm"

    def __init__(self, answer: Account | Exception) -> None:
        self.answer = answer
        self.asked = 0

    async def account(self, tenant_id: str, company_id: str) -> Account:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Code:
    name = "code"

    async def activity(self, tenant_id: str, repository: str, since: Any) -> CodeActivity:
        raise AssertionError("no client here has a repository")


def scoring_over(service: Service, crm: Crm) -> Scoring:
    kit = service.container.kit
    return Scoring(kit, Syncer(kit.ports.db, kit.ports.clock, kit.metrics, Code(), crm), SentimentLexicon())


async def row_of(service: Service, name: str) -> Client:
    async with service.container.db.operator_reading() as session:
        found = await session.scalar(select(Client).where(Client.external_id == name))
    assert found is not None
    return found


async def signals_of(service: Service, name: str) -> list[dict[str, Any]]:
    client = await row_of(service, name)
    return [row for row in await service.rows("team_client_signals") if row["client_id"] == client.id]


async def test_news_of_the_crm_come_once_and_a_ticket_that_opens_again_is_open(service: Service, name: str) -> None:
    await put(service, {"external_id": name, "name": "X", "crm_id": "501"})
    now = service.container.clock()
    ticket = Ticket("9", "Late", now - timedelta(days=4), now - timedelta(days=2), "high")
    account = Account(Company("501", "X"), tickets=(ticket,), notes=(AccountNote("7", now, "They are angry."),))
    crm = Crm(account)
    scoring = scoring_over(service, crm)
    for _ in range(2):
        assert await scoring.score(ADMIN, await row_of(service, name), sync=True) is not None
    kinds = sorted(row["kind"] for row in await signals_of(service, name))
    assert kinds == ["message", "ticket_opened", "ticket_solved"]
    crm.answer = Account(Company("501", "X"), tickets=(Ticket("9", "Late", ticket.opened_at, None, "high"),))
    row = await scoring.score(ADMIN, await row_of(service, name), sync=True)
    assert row is not None
    assert row.factors[1]["sentence"].startswith("Open tickets: 1 (high or urgent: 1")


async def test_a_vendor_that_is_away_is_told_in_the_score_and_asked_once_a_round(service: Service, name: str) -> None:
    clients = [a_client(service, f"{name}-{number}", crm_id="501") for number in range(3)]
    await put(service, *clients)
    crm, outages = Crm(AWAY), Outages()
    scoring = scoring_over(service, crm)
    notes = []
    for client in clients:
        row = await scoring.score(ADMIN, await row_of(service, client["external_id"]), sync=True, outages=outages)
        assert row is not None
        notes += row.notes
    assert notes[0] == f"The CRM could not be read, {BEFORE}: {AWAY.detail}"
    assert notes[1:] == [f"The CRM was away when others were read, {BEFORE}."] * 2
    assert crm.asked == 1


async def test_what_an_erased_person_wrote_is_not_brought_back_by_the_crm(service: Service, name: str) -> None:
    await put(service, {"external_id": name, "name": "X", "crm_id": "501", "email": f"{name}@gone.example"})
    note = AccountNote("7", service.container.clock(), "Ana is furious.")
    scoring = scoring_over(service, Crm(Account(Company("501", "X"), notes=(note,))))
    await scoring.score(ADMIN, await row_of(service, name), sync=True)
    assert (await service.client.delete(f"/v1/people/{name}@gone.example")).json()["erased"]["clients"] == 2
    await scoring.score(ADMIN, await row_of(service, name), sync=True)
    assert [row["text"] for row in await signals_of(service, name)] == [""]
    assert (await service.client.delete(f"/v1/people/{name}@gone.example")).json()["erased"]["clients"] == 0


async def test_the_night_scores_each_client_once_a_day_and_one_failure_stops_nobody(
    service: Service, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(service, a_client(service, f"{name}-a", crm_id="501"), a_client(service, f"{name}-b"))
    scoring = scoring_over(service, Crm(RuntimeError("a fault of ours")))
    jobs = HealthJobs(service.container.kit, scoring)
    first = (await jobs.batch((await row_of(service, f"{name}-a")).id[:-1]))["counts"]
    assert (first["failed"], first["scored"]) == (1, 1)
    again = (await jobs.batch((await row_of(service, f"{name}-a")).id[:-1]))["counts"]
    assert again == {"failed": 1, "passed": 1}
    async with service.container.db.operator_transaction() as session:
        await service.container.flags.set(session, ADMIN, "kill.teams", True)
    await service.container.flags.refresh()
    stopped = (await jobs.batch((await row_of(service, f"{name}-a")).id[:-1]))["counts"]
    assert stopped == {"passed": 2}
    async with service.container.db.operator_transaction() as session:
        await service.container.flags.set(session, ADMIN, "kill.teams", False)
    await service.container.flags.refresh()


async def test_the_nights_job_runs_over_every_client(service: Service, name: str) -> None:
    await put(service, a_client(service, name))
    kit = service.container.kit
    async with service.container.db.operator_transaction() as session:
        await kit.jobs.enqueue(session, HEALTH_JOB, {"scheduled_at": "now"}, job_id=f"night-{name}")

    async def done() -> bool:
        status = await kit.jobs.status(f"night-{name}")
        assert status is None or status.state is not JobState.FAILED
        return status is not None and status.state is JobState.DONE

    await until(done, "the night's job is done")
    assert (await service.client.get(f"{PATH}/{name}")).json()["health"]["state"] == "healthy"


def tool(service: Service, wanted: str) -> Tool:
    tools = build_client_tools(service.container.kit.ports, SentimentLexicon())
    return next(one for one in tools if one.name == wanted)


async def use(service: Service, wanted: str, principal: Principal = ADMIN, **args: Any) -> dict[str, Any]:
    used = tool(service, wanted)
    found: dict[str, Any] = await used.run(ToolContext(principal, "k", "s"), used.args(**args))
    return found


async def test_members_find_a_client_by_its_name_with_health_and_signals(service: Service, name: str) -> None:
    said = [
        {"key": f"s-{n}", "kind": "message", "at": ago(service, 3), "text": "This is terrible. " * 100}
        for n in range(40)
    ]
    await put(service, a_client(service, name) | {"signals": [*a_client(service, name)["signals"], *said]})
    await service.client.post(f"{PATH}/{name}/score")
    health = await use(service, "client_health", client=name.upper())
    assert health["health"]["factors"][2]["value"] < 0.5
    signals = await use(service, "client_signals", client=name)
    assert (len(signals["signals"]), signals["more"]) == (MOST_SIGNALS, True)
    assert all(len(one["text"]) <= MOST_WORDS for one in signals["signals"])
    assert [(one["ref"], one["days_open"]) for one in signals["open_tickets"]] == [("T2", 5)]
    assert {one.get("mood_source") for one in signals["signals"]} == {"rule"}
    listed = await use(service, "client_list", name=name.upper())
    assert name in {one["id"] for one in listed["clients"]}


async def test_members_see_no_other_tenants_client_and_no_repository_that_no_client_names(
    service: Service, name: str
) -> None:
    await put(service, a_client(service, name, crm_id="501"))
    rival = Principal("rival", "test", Role.ADMIN)
    for wanted in ("client_health", "client_signals", "account_context", "code_activity"):
        with pytest.raises(NotFound):
            await use(service, wanted, rival, client=name)
    assert (await use(service, "client_list", rival))["clients"] == []
    assert "no 'repository'" in (await use(service, "code_activity", client=name))["problem"]
    assert {one.effect.value for one in build_client_tools(service.container.kit.ports, SentimentLexicon())} == {"read"}


async def test_the_sample_tells_its_stories_once(service: Service) -> None:
    load = service.container.runtimes["teams"].load_sample
    assert load is not None
    tenant = Principal("storyland", "test", Role.ADMIN)
    assert await load(tenant) > 200
    assert await load(tenant) == 0
    listed = await use(service, "client_list", tenant, limit=50)
    states = {one["id"]: one["state"] for one in listed["clients"]}
    assert len(states) == 12
    assert {states["borealis-foods"], states["cumbre-fresca"]} == {"at_risk"}
    assert {states["delfin-conservas"], states["aurora-dairy"]} == {"healthy"}
    scores = [one["score"] for one in listed["clients"]]
    assert scores == sorted(scores)
    account, code = await asyncio.gather(
        use(service, "account_context", tenant, client="Borealis Foods"),
        use(service, "code_activity", tenant, client="borealis-foods"),
    )
    assert account["deals"][0]["name"] == "Renewal"
    assert code["counts"]["issue"] == 1
