"""A question to a team from its plan to the person who is erased from it, the same embedded and on servers."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.principal import Principal, Role
from tests.support.servers import Backends
from tests.support.service import TENANT, Service, lead, running
from tests.support.sse import events_of

QUESTION = "Which of our clients is at risk, and why?"
CONTACT = "Mira.Holm@auroradairy.example"


@pytest.fixture
async def service(tmp_path: Path, backends: Backends) -> AsyncIterator[Service]:
    async with running(tmp_path, **backends) as found:
        load = found.container.runtimes["teams"].load_sample
        assert load is not None
        await load(Principal(TENANT, "test", Role.ADMIN))
        yield found


async def ask(service: Service, team: str = "client_health", **body: Any) -> dict[str, Any]:
    answer = await service.client.post(f"/v1/teams/{team}/ask", json={"question": QUESTION, **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_teams_answer_from_the_tenants_own_rows_and_forget_a_person(service: Service) -> None:
    found = await ask(service)
    assert [task["member"] for task in found["tasks"]] == ["activity", "tickets", "account", "engineering"]
    assert "Borealis Foods" in found["answer"]["text"]
    assert {row["tool"] for row in found["answer"]["evidence"]} >= {"client_list", "client_health", "client_signals"}
    assert (await service.client.get(f"/v1/teams/questions/{found['id']}")).json() == found
    await the_sales_team_reads_leads_and_pages(service)
    await a_stream_tells_every_task(service)
    await another_tenant_sees_nothing_of_it(service, found["id"])
    other = await ask(service, subject="borealis-foods")
    named = await ask(service, question="Who?", subject=CONTACT)
    erased = (await service.client.delete(f"/v1/people/{CONTACT}")).json()["erased"]
    assert erased["team_questions"] > 0
    assert (await service.client.get(f"/v1/teams/questions/{named['id']}")).status_code == 404
    assert (await service.client.get(f"/v1/teams/questions/{other['id']}")).status_code == 200


async def the_sales_team_reads_leads_and_pages(service: Service) -> None:
    made = (await service.client.post("/v1/leads", json=lead())).json()
    await service.decided([made["lead"]["id"]])
    asked = "Where do our leads stand, and what does Operate cost?"
    found = await ask(service, "sales_intelligence", question=asked)
    by = {task["member"]: task for task in found["tasks"]}
    assert "newest lead 1 answered" in by["pipeline"]["answer"]
    assert {row["tool"] for row in by["knowledge"]["evidence"]} == {"knowledge_search"}


async def a_stream_tells_every_task(service: Service) -> None:
    body = {"question": QUESTION, "stream": True}
    events = events_of((await service.client.post("/v1/teams/client_health/ask", json=body)).text)
    names = [event.name for event in events]
    assert (names.count("task_started"), names.count("task_ended"), names[-1]) == (4, 4, "answer")


async def another_tenant_sees_nothing_of_it(service: Service, question_id: str) -> None:
    rival = {"Authorization": f"Bearer {await service.other_tenant()}"}
    assert (await service.client.get(f"/v1/teams/questions/{question_id}", headers=rival)).status_code == 404
    theirs = await service.client.post("/v1/teams/client_health/ask", json={"question": QUESTION}, headers=rival)
    assert "Borealis" not in theirs.json()["answer"]["text"]
