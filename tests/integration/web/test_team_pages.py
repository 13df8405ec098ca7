"""The pages of teams and clients over the whole service, on the sample and without a model."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import update

from app.main import create_app
from app.packs.teams.client_pages import Line
from app.packs.teams.models import QuestionState, TeamQuestion
from app.packs.teams.question_pages import pieces, readable
from app.principal import Principal, Role
from tests.support.console import Visitor, signed_in, visiting
from tests.support.service import TENANT, Service, running
from tests.support.sse import events_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
MARKUP = "<script>alert('x')</script>"
TEAMS = "/console/teams"
CLIENTS = f"{TEAMS}/clients"
QUESTION = {"team": "client_health", "question": "Which of our clients is at risk, and why?"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with running(tmp_path_factory.mktemp("teams"), knowledge=False) as service:
        load = service.container.runtimes["teams"].load_sample
        assert load is not None
        await load(Principal(TENANT, "test", Role.ADMIN))
        yield service


async def asked(agent: Visitor, **form: str) -> str:
    """The address of an answered question's page."""
    await agent.get(TEAMS)
    answer = await agent.post(f"{TEAMS}/ask", {**QUESTION, **form})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def test_a_question_without_the_script_ends_on_the_page_of_its_answer(house: Service) -> None:
    async with signed_in(house, Role.AGENT) as agent:
        assert "Nothing was asked yet" in (await agent.get(TEAMS)).text
        place = await asked(agent)
        page = (await agent.get(place)).text
        assert 'href="#task-1">[1]</a>' in page
        assert "hx-trigger" not in page
        found = (await house.client.get(f"/v1/teams/questions/{place.rpartition('/')[2]}")).json()
        assert [task["member"] for task in found["tasks"]] == ["activity", "tickets", "account", "engineering"]
        for number, title in enumerate(("Activity", "Tickets", "Account", "Engineering"), start=1):
            assert f'id="task-{number}"' in page
            assert f"<b>{title}</b>" in page
        for one in (one for task in found["tasks"] for one in task["evidence"]):
            assert one["id"] in page
        assert "What is missing" in page
        assert "pieces of evidence" in page
        assert place in (await agent.get(TEAMS)).text


async def test_a_question_with_the_script_is_streamed_and_read_on_after_a_break(house: Service) -> None:
    async with signed_in(house, Role.AGENT) as agent:
        await agent.get(TEAMS)
        answer = await agent.post(f"{TEAMS}/ask", QUESTION, headers={"accept": "text/event-stream"})
        events = events_of(answer.content)
        assert [event.name for event in events][:2] == ["start", "plan"]
        assert events[-1].name == "answer"
        again = await agent.get(events[0].data["resume"], headers={"Last-Event-ID": events[-2].id})
        assert events_of(again.content) == events[-1:]
        assert (await agent.get(f"{TEAMS}/questions/{events[-1].data['id']}")).status_code == 200
    async with signed_in(house, Role.AGENT) as other:
        assert (await other.get(events[0].data["resume"])).status_code == 404


async def test_a_question_that_is_under_way_asks_for_itself(house: Service) -> None:
    async with signed_in(house, Role.AGENT) as agent:
        place = await asked(agent)
        mine = TeamQuestion.id == place.rpartition("/")[2]
        now = house.container.clock()
        async with house.container.db.operator_transaction() as session:
            await session.execute(
                update(TeamQuestion).where(mine).values(state=QuestionState.RUNNING, answer={}, created_at=now)
            )
        part = (await agent.get(f"{place}/live")).text
        assert f'hx-get="{place}/live"' in part
        assert "The team is at work" in part
        assert "<html" not in part


async def test_a_wrong_question_is_refused(house: Service) -> None:
    async with signed_in(house, Role.AGENT) as agent:
        await agent.get(TEAMS)
        before = len(await house.rows("team_questions"))
        assert (await agent.post(f"{TEAMS}/ask", {"team": "client_health"})).status_code == 422
        assert (await agent.post(f"{TEAMS}/ask", {**QUESTION, "team": "unheard"})).status_code == 404
        streamed = await agent.post(f"{TEAMS}/ask", {"team": "unheard"}, headers={"accept": "text/event-stream"})
        assert streamed.status_code == 422
        assert (await agent.client.post(f"{TEAMS}/ask", data=QUESTION)).status_code == 403, "without the token"
        assert len(await house.rows("team_questions")) == before


async def test_clients_come_the_unhealthiest_first_and_are_narrowed(house: Service) -> None:
    async with signed_in(house, Role.VIEWER) as viewer:
        page = (await viewer.get(CLIENTS)).text
        order = [page.index(name) for name in ("Borealis Foods", "Cumbre Fresca", "Lumen Labs", "Delfín Conservas")]
        assert order == sorted(order)
        assert "<polyline points=" in page
        at_risk = (await viewer.get(f"{CLIENTS}?state=at_risk")).text
        assert "Borealis Foods" in at_risk
        assert "Aurora Dairy" not in at_risk
        assert "Aurora Dairy" in (await viewer.get(f"{CLIENTS}?name=AURORA")).text
        assert "No client fits these filters" in (await viewer.get(f"{CLIENTS}?name=unheard")).text
        assert (await viewer.get(f"{CLIENTS}?state=unheard")).status_code == 422


async def test_a_clients_score_is_explained_and_made_again(house: Service) -> None:
    health = (await house.client.get("/v1/teams/clients/borealis-foods")).json()["health"]
    async with signed_in(house, Role.AGENT) as agent:
        place = f"{CLIENTS}/borealis-foods"
        page = (await agent.get(place)).text
        for factor in health["factors"]:
            assert factor["sentence"] in page
            assert f"{factor['points']:.1f} of {100 * factor['weight']:.0f} points" in page
        assert f"{health['trend']['change']:+.0f} points" in page
        assert "A whole pallet spoiled and no alarm was sent" in page
        assert "nobody answers our tickets" in page
        before = len(await house.rows("team_health_scores"))
        assert (await agent.post(f"{place}/score")).headers["location"] == place
        assert len(await house.rows("team_health_scores")) == before + 1
        assert (await agent.get(f"{CLIENTS}/unheard")).status_code == 404


async def test_what_others_wrote_is_text_on_every_page(house: Service) -> None:
    ticket = {"key": "t", "kind": "ticket_opened", "ref": MARKUP, "text": MARKUP, "priority": "urgent"}
    said = {"key": "m", "kind": "message", "text": MARKUP}
    signals = [{**one, "at": house.container.clock().isoformat()} for one in (ticket, said)]
    body = [{"external_id": "hostile", "name": MARKUP, "attributes": {MARKUP: MARKUP}, "signals": signals}]
    assert (await house.client.put("/v1/teams/clients", json=body)).status_code == 200
    assert (await house.client.post("/v1/teams/clients/hostile/score")).status_code == 201
    async with signed_in(house, Role.AGENT) as agent:
        place = await asked(agent, question=f"How is {MARKUP} doing?", subject="hostile")
        for path in (TEAMS, f"{TEAMS}?subject={MARKUP}&team={MARKUP}", place, CLIENTS, f"{CLIENTS}/hostile"):
            page = await agent.get(path)
            assert page.status_code == 200, path
            assert "&lt;script&gt;" in page.text, path
            assert "<script>" not in page.text, path
    assert (await house.client.delete("/v1/teams/clients/hostile")).status_code == 204


async def test_a_viewer_sees_clients_and_no_team(house: Service) -> None:
    async with signed_in(house, Role.AGENT) as agent:
        place = await asked(agent)
        assert (await agent.client.post(f"{CLIENTS}/borealis-foods/score", data={})).status_code == 403
    async with signed_in(house, Role.VIEWER) as viewer:
        page = (await viewer.get(f"{CLIENTS}/borealis-foods")).text
        assert "Score now" not in page
        assert f'href="{TEAMS}"' not in page, "the navigation leaves out what is not theirs"
        assert (await viewer.post(f"{CLIENTS}/borealis-foods/score")).status_code == 403
        assert (await viewer.post(f"{TEAMS}/ask", QUESTION)).status_code == 403
        for path in (TEAMS, place, f"{place}/live"):
            assert (await viewer.get(path)).status_code == 403, path


async def test_another_tenant_finds_none_of_it(house: Service) -> None:
    async with signed_in(house, Role.AGENT) as agent:
        place = await asked(agent)
    [client, *_] = await house.rows("team_clients")
    async with visiting(create_app(house.container)) as rival:
        await rival.sign_in(await house.other_tenant())
        assert "There are no clients yet" in (await rival.get(CLIENTS)).text
        assert "Nothing was asked yet" in (await rival.get(TEAMS)).text
        for path in (place, f"{place}/live", f"{CLIENTS}/{client['id']}"):
            assert (await rival.get(path)).status_code == 404, path
        assert (await rival.post(f"{CLIENTS}/{client['id']}/score")).status_code == 404


async def test_marks_open_the_parts_that_there_are_and_rows_are_read_where_they_are_whole(house: Service) -> None:
    assert pieces("So it is [1], says [9] too [2].", {1, 2}) == [("So it is ", 1), (", says [9] too ", 2), (".", None)]
    assert readable('{"id": "x"}') == {"id": "x"}
    assert readable('{"id": "cut o') == '{"id": "cut o'
    now = house.container.clock()
    assert Line([(now, 40.0)]).points == ""
    assert Line([(now, 40.0), (now, 70.0)]).points == "0.00,60.00 0.00,30.00"
