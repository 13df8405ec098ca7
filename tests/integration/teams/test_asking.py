"""`/v1/teams` without a model: the sample's clients, pages and leads give a real answer, whole or as a stream."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import update

from app.governance.people import Alias, Aliases, Kind
from app.packs.teams.models import TeamQuestion
from app.packs.teams.people import TeamQuestionsOfPerson
from app.principal import Principal, Role
from tests.support.service import TENANT, Service, lead, running
from tests.support.sse import events_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
QUESTION = "Which of our clients is at risk, and why?"
ASK = "/v1/teams/client_health/ask"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with running(tmp_path_factory.mktemp("teams")) as service:
        load = service.container.runtimes["teams"].load_sample
        assert load is not None
        await load(Principal(TENANT, "test", Role.ADMIN))
        yield service


async def ask(house: Service, path: str = ASK, **body: Any) -> dict[str, Any]:
    answer = await house.client.post(path, json={"question": QUESTION, **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_who_is_at_risk_and_why_is_answered_from_four_members(house: Service) -> None:
    found = await ask(house)
    text = found["answer"]["text"]
    assert [task["member"] for task in found["tasks"]] == ["activity", "tickets", "account", "engineering"]
    assert [task["after"] for task in found["tasks"]] == [[], [1], [1], [1]]
    for said in ("Borealis Foods", "at risk", "3 open tickets", "Renewal", "#88", "[1]", "[4]"):
        assert said in text, said
    assert "Aurora" not in text, "a healthy client is none of it"
    assert (found["answer"]["model"], found["answer"]["joined_by"]) == ("offline", "model")
    assert {row["tool"] for row in found["answer"]["evidence"]} >= {"client_list", "client_health", "client_signals"}
    # One of the two names no repository: that is missing, and said.
    assert found["state"] == "partial"
    assert any("repository" in gap["what"] for gap in found["answer"]["missing"])
    assert (await house.client.get(f"/v1/teams/questions/{found['id']}")).json() == found
    listed = (await house.client.get("/v1/teams/questions", params={"team": "client_health"})).json()["items"]
    assert found["id"] in [one["id"] for one in listed]


async def test_about_one_client_nobody_looks_at_the_others(house: Service) -> None:
    found = await ask(house, question="How is this client doing?", subject="aurora-dairy")
    used = {use["tool"] for task in found["tasks"] for use in task["tools"]}
    assert "client_list" not in used
    assert "Aurora Dairy Cooperative" in found["answer"]["text"]
    assert "Borealis" not in found["answer"]["text"]


async def test_the_sales_team_joins_pages_and_leads(house: Service) -> None:
    made = (await house.client.post("/v1/leads", json=lead())).json()
    await house.decided([made["lead"]["id"]])
    found = await ask(
        house, "/v1/teams/sales_intelligence/ask", question="Where do our leads stand, and what does Operate cost?"
    )
    by = {task["member"]: task for task in found["tasks"]}
    assert by["pipeline"]["state"] == by["knowledge"]["state"] == "done"
    assert "newest lead 1 answered" in by["pipeline"]["answer"]
    assert "€" in by["knowledge"]["answer"]
    assert all(row["tool"] == "knowledge_search" for row in by["knowledge"]["evidence"])


async def test_a_stream_tells_the_plan_the_progress_and_the_answer(house: Service) -> None:
    answer = await house.client.post(ASK, json={"question": QUESTION, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    names = [event.name for event in events]
    assert names[:3] == ["start", "plan", "task_started"]
    assert (names.count("task_started"), names.count("task_ended"), names[-1]) == (4, 4, "answer")
    assert [task["number"] for task in events[1].data["tasks"]] == [1, 2, 3, 4]
    assert "Borealis" in events[-1].data["answer"]["text"]
    again = await house.client.get(answer.headers["location"], headers={"Last-Event-ID": events[-2].id})
    assert [event.name for event in events_of(again.text)] == ["answer"]


async def test_wrong_questions_and_wrong_keys_are_refused_with_a_sentence(house: Service) -> None:
    viewer = {"Authorization": f"Bearer {await house.key_with(Role.VIEWER)}"}
    assert (await house.client.post(ASK, json={"question": QUESTION}, headers=viewer)).status_code == 403
    assert (await house.client.get("/v1/teams", headers=viewer)).status_code == 403
    for body, status in (
        ({"question": " "}, 422),
        ({"question": QUESTION, "limits": {"seconds": 900}}, 422),
        ({"question": QUESTION, "limits": {"seconds": "NaN"}}, 422),
        ({"question": QUESTION, "stream": True, "limits": {"tokens": 10**9}}, 422),
    ):
        assert (await house.client.post(ASK, json=body)).status_code == status, body
    assert (await house.client.post("/v1/teams/nobody/ask", json={"question": QUESTION})).status_code == 404
    rival = {"Authorization": f"Bearer {await house.other_tenant()}"}
    found = await ask(house)
    assert (await house.client.get(f"/v1/teams/questions/{found['id']}", headers=rival)).status_code == 404
    theirs = (await house.client.post(ASK, json={"question": QUESTION}, headers=rival)).json()
    assert "Borealis" not in theirs["answer"]["text"], "another tenant's clients are not looked at"


async def test_every_member_has_its_tools_where_all_is_allowed(house: Service) -> None:
    listed = (await house.client.get("/v1/teams")).json()["teams"]
    assert [team["name"] for team in listed] == ["sales_intelligence", "client_health"]
    assert [member["absent"] for team in listed for member in team["members"]] == [[]] * 7


async def test_a_question_whose_server_died_is_not_under_way_for_ever(house: Service) -> None:
    found = await ask(house)
    long_ago = house.container.clock() - timedelta(hours=1)
    async with house.container.db.operator_transaction() as session:
        lost = {"state": "running", "answer": {}, "created_at": long_ago}
        await session.execute(update(TeamQuestion).where(TeamQuestion.id == found["id"]).values(**lost))
    shown = (await house.client.get(f"/v1/teams/questions/{found['id']}")).json()
    assert (shown["state"], shown["answer"]) == ("failed", None)
    assert "ask again" in shown["problem"]


async def test_what_was_asked_about_a_person_is_given_out_and_erased(house: Service) -> None:
    other = await ask(house, subject="borealis-foods")
    named = await ask(house, question="Who?", subject="Mira.Holm@auroradairy.example")
    quoted = await ask(house, subject="aurora-dairy")
    store, known = TeamQuestionsOfPerson(), Aliases([Alias(Kind.EMAIL, "mira.holm@auroradairy.example")])
    async with house.container.db.operator_transaction() as session:
        found = {alias.value for alias in await store.aliases(session, TENANT, known)}
        assert found >= {named["id"], quoted["id"]}
        assert other["id"] not in found
        rows = await store.export(session, TENANT, known)
        assert {row["table"] for row in rows} == {"team_questions", "team_tasks"}
        assert await store.erase(session, TENANT, known) == len(rows)
        assert await store.erase(session, TENANT, known) == 0
    states = [
        (await house.client.get(f"/v1/teams/questions/{one['id']}")).status_code for one in (named, quoted, other)
    ]
    assert states == [404, 404, 200]
