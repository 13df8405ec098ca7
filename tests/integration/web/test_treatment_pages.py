"""The pages of treatments over the whole service, on the sample: runs are started, watched, steered and read."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from app.main import create_app
from app.principal import Principal, Role
from tests.support.console import Visitor, signed_in, visiting
from tests.support.service import TENANT, Service, running

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
MARKUP = "<script>alert('x')</script>"
HOSTILE = "<i>seg</i>"
RUNS = "/console/treatments"
CUSTOMERS = f"{RUNS}/customers"
WAIT_S = 60


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with running(tmp_path_factory.mktemp("treatments"), knowledge=False) as service:
        load = service.container.runtimes["treatments"].load_sample
        assert load is not None
        await load(Principal(TENANT, "test", Role.ADMIN))
        yield service


async def started(agent: Visitor, **form: str) -> str:
    """The address of a new run's page."""
    await agent.get(f"{RUNS}/runs/new")
    answer = await agent.post(f"{RUNS}/runs/new", form)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def settled(visitor: Visitor, place: str, word: str) -> str:
    """The part of a run's page that moves, once it holds the word."""
    async with asyncio.timeout(WAIT_S):
        while word not in (part := (await visitor.get(f"{place}/live")).text):
            await asyncio.sleep(0.05)
    return part


def closed_window(house: Service) -> str:
    """Hours in which the run may work, but not now."""
    opens = house.container.clock() + timedelta(hours=3)
    return f"{opens:%H:%M}-{opens + timedelta(hours=1):%H:%M}"


async def put(house: Service, **customer: Any) -> None:
    body = [{"external_id": "hostile", "worth_usd": 100, **customer}]
    assert (await house.client.put("/v1/treatments/customers", json=body)).status_code == 200


async def test_a_run_over_everybody_is_started_watched_and_read(house: Service) -> None:
    async with signed_in(house, Role.AGENT) as agent:
        assert "No run was started yet" in (await agent.get(RUNS)).text
        form = (await agent.get(f"{RUNS}/runs/new")).text
        assert '<option value="business">segment business (' in form
        place = await started(agent, control_percent="0")
        part = await settled(agent, place, 'id="evaluation"')
        assert "<html" not in part
        assert "hx-trigger" not in part, "what stands still does not ask again"
        for said in (
            "60 of 60",
            "waits for capacity",
            "The best there is under these limits",
            "by an adviser",
            "2 of 2",
        ):
            assert said in part, said
        assert "Of the group <b>rural</b>, at least 20% get a treatment" in part
        assert "Too few to say anything" in part
        run_id = place.rpartition("/")[2]
        made = (await house.client.get(f"/v1/treatments/runs/{run_id}/allocations")).json()["items"][0]
        queue = (await house.client.get(f"/v1/treatments/runs/{run_id}/queue")).json()
        assert f"${made['value_usd']:,.2f}" in part
        assert f"The queue: {queue['length']} customer" in part
        assert queue["length"] > 0, "the sample shows a queue"
        assert queue["items"][0]["customer_id"] in part
        listed = (await agent.get(RUNS)).text
        assert f'href="{place}"' in listed
        assert "over all customers" in listed
        rows = await agent.get(f"{place}/results.csv")
        assert rows.text.splitlines()[0].startswith("external_id,state,treatment")
        assert len(rows.text.splitlines()) == 61
        assert "attachment" in rows.headers["content-disposition"]
        assert (await agent.get(f"{place}/results.parquet")).content.startswith(b"PAR1")
        waiting = (await agent.get(f"{place}/results?state=queued")).text
        assert queue["items"][0]["customer_id"] in waiting
        assert "gets a treatment</span>" not in waiting
        assert (await agent.get(f"{place}/results?state=unheard")).status_code == 422
        assert (await agent.get(f"{RUNS}?state=unheard")).status_code == 422


async def test_a_run_outside_its_hours_waits_is_cancelled_and_resumed(house: Service) -> None:
    async with signed_in(house, Role.AGENT) as agent:
        place = await started(agent, segment="business", window=closed_window(house))
        part = await settled(agent, place, "It goes on by itself")
        assert 'hx-trigger="every 15s"' in part
        assert "Resume</button>" in part
        assert (await agent.post(f"{place}/cancel")).headers["location"] == place
        part = await settled(agent, place, ">cancelled</span>")
        assert "Cancel</button>" not in part
        assert "hx-trigger" not in part
        assert (await agent.post(f"{place}/pause")).status_code == 409
        assert (await agent.post(f"{place}/allocate")).status_code == 409
        assert (await agent.post(f"{place}/resume")).status_code == 303
        await settled(agent, place, "It goes on by itself")


async def test_a_wrong_form_starts_nothing(house: Service) -> None:
    async with signed_in(house, Role.AGENT) as agent:
        await agent.get(f"{RUNS}/runs/new")
        before = len(await house.rows("treatment_runs"))
        for wrong in ({"window": "25:00-26:00"}, {"segment": "unheard"}, {"max_cost_usd": "-1"}, {"all": "true"}):
            assert (await agent.post(f"{RUNS}/runs/new", wrong)).status_code == 422, wrong
        assert len(await house.rows("treatment_runs")) == before


async def test_a_customer_is_found_by_the_tenants_own_id_with_the_whole_story(house: Service) -> None:
    async with signed_in(house, Role.AGENT) as agent:
        await settled(agent, await started(agent, control_percent="0"), 'id="evaluation"')
        answer = await agent.get(f"{CUSTOMERS}?name=%20sample-003%20")
        assert answer.status_code == 303
        page = (await agent.get(answer.headers["location"])).text
        story = (await house.client.get("/v1/treatments/customers/sample-003/story")).json()
        newest = story["decisions"][0]
        assert newest["run"]["id"] in page
        assert newest["result"]["fingerprint"] in page
        for option in newest["result"]["options"]:
            assert option["reason"] in page
        assert newest["answer"]["id"] in page
        assert "What was possible" in page
        assert "There is no customer 'unheard'" in (await agent.get(f"{CUSTOMERS}?name=unheard")).text
        business = (await agent.get(f"{CUSTOMERS}?segment=business")).text
        assert "consumer</td>" not in business
        assert (await agent.get(f"{CUSTOMERS}/unheard")).status_code == 404


async def test_what_customers_say_is_text_on_every_page(house: Service) -> None:
    event = {"at": house.container.clock().isoformat(), "kind": "contact", "text": MARKUP, "channel": HOSTILE}
    await put(house, segment=HOSTILE, fair_group=MARKUP, attributes={MARKUP: MARKUP}, events=[event])
    async with signed_in(house, Role.AGENT) as agent:
        assert "&lt;i&gt;seg" in (await agent.get(f"{RUNS}/runs/new")).text
        place = await started(agent, segment=HOSTILE, control_percent="0")
        await settled(agent, place, 'id="evaluation"')
        found = (await agent.get(f"{CUSTOMERS}?name=hostile")).headers["location"]
        for path in (RUNS, f"{RUNS}/runs/new", place, f"{place}/live", f"{place}/results", CUSTOMERS, found):
            page = await agent.get(path)
            assert page.status_code == 200, path
            assert "&lt;" in page.text, path
            assert "<script>" not in page.text, path
            assert "<i>" not in page.text, path
    assert (await house.client.delete("/v1/treatments/customers/hostile")).status_code == 204


async def test_a_viewer_looks_and_changes_nothing(house: Service) -> None:
    async with signed_in(house, Role.AGENT) as agent:
        place = await started(agent, segment="business", window=closed_window(house))
        await settled(agent, place, "It goes on by itself")
        for action in ("pause", "cancel", "resume", "allocate"):
            assert (await agent.client.post(f"{place}/{action}", data={})).status_code == 403, "without the token"
    async with signed_in(house, Role.VIEWER) as viewer:
        assert "<button>Resume" not in (await viewer.get(place)).text
        assert "Start a run" not in (await viewer.get(RUNS)).text
        assert (await viewer.get(f"{RUNS}/runs/new")).status_code == 403
        assert (await viewer.get(f"{place}/results.csv")).status_code == 200
        for address in (*(f"{place}/{name}" for name in ("pause", "cancel", "resume", "allocate")), f"{RUNS}/runs/new"):
            assert (await viewer.post(address)).status_code == 403, address
        assert ">paused</span>" in (await viewer.get(f"{place}/live")).text


async def test_another_tenant_finds_none_of_it_and_is_told_what_to_do(house: Service) -> None:
    [run, *_] = await house.rows("treatment_runs")
    [customer, *_] = await house.rows("treatment_customers")
    place = f"{RUNS}/runs/{run['id']}"
    async with visiting(create_app(house.container)) as rival:
        await rival.sign_in(await house.other_tenant())
        page = (await rival.get(RUNS)).text
        assert "There is no catalogue of treatments yet" in page
        assert "No run was started yet" in page
        assert "There are no customers yet" in (await rival.get(CUSTOMERS)).text
        assert (await rival.get(f"{RUNS}/runs/new")).status_code == 422
        for path in (place, f"{place}/live", f"{place}/results", f"{place}/results.csv", f"{place}/results.parquet"):
            assert (await rival.get(path)).status_code == 404, path
        assert (await rival.get(f"{CUSTOMERS}/{customer['id']}")).status_code == 404
        for action in ("pause", "cancel", "resume", "allocate"):
            assert (await rival.post(f"{place}/{action}")).status_code == 404, action
