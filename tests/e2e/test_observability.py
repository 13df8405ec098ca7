"""What an on-call engineer has: a real Prometheus and Alertmanager over the service under load, with a fault in it."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from types import ModuleType
from typing import Any

import orjson
import pytest
import pytest_asyncio

from app.integrations.mcp.config import ServerSpec
from app.integrations.mcp.servers import McpServer
from app.telemetry.kept import KeptSpan, TraceReader
from dashboards.generate import OUT
from dashboards.render.gather import BoardData, Request, gather
from dashboards.render.grafana import read_board
from dashboards.render.prometheus import Prometheus
from dashboards.src import agent, api, business, jobs, model, release, slo
from infra.phases import PhaseName
from tests.support.components import require
from tests.support.observed import Observed, local_key, observed, until
from tests.support.server import trellis

OURS = (slo, api, model, agent, jobs, release, business)
"""The dashboards of the application."""
PAGE = "AvailabilityBudgetBurn"
WARM_S, FAULT_S, QUIET_S = 15.0, 30.0, 15.0
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Observed]:
    """The rules of a phase that promises a p99 too; a second model, so that there is one to fall back to."""
    require("prometheus")
    require("alertmanager")
    async with observed(tmp_path_factory.mktemp("observed"), phase=PhaseName.SMALL) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(house: Observed) -> Mapping[str, BoardData]:
    """What the dashboards showed while the model failed and all else went on; afterwards it was well again."""
    async with house.load():
        await asyncio.sleep(WARM_S)
        await errands(house)
        with house.fault(errors=0.8, slow_s=0.5):
            await asyncio.sleep(FAULT_S)
            shown = await boards(house, WARM_S + FAULT_S)
        await asyncio.sleep(QUIET_S)
    return shown


async def errands(house: Observed) -> None:
    """What people do beside asking: they judge, report, ask a team, use a tool from elsewhere, and make mistakes."""
    lead = await house.lead()
    path = f"/v1/leads/{lead.body['lead']['id']}"

    async def decided() -> bool:
        return (await house.client.get(path)).body["status"] != "new"

    await until(decided, "the lead is decided")
    await house.client.post(f"{path}/outcome", {"kind": "converted", "value_usd": 1200})
    await house.client.post(f"{path}/feedback", {"thumb": "up", "csat": 5, "escalation_necessary": True})
    answer = await house.whole()
    told = await house.client.post(
        f"/v1/bots/handbook/answers/{answer.body['decision_id']}/feedback", {"helpful": True}
    )
    assert told.ok, told
    await house.client.post("/v1/teams/client_health/ask", {"question": "Which of our clients is at risk, and why?"})
    assert (await house.client.get("/v1/leads/none")).status == 404
    spec = ServerSpec(name="self", url=f"{house.server.address}/mcp", allow=("list_leads",))
    key = {"Authorization": f"Bearer {local_key(house.server.home)}"}
    mount = McpServer(spec.model_copy(update={"headers": key}))
    assert await mount.reach(60)
    await mount.call("list_leads", {"limit": 2})
    await mount.close()


async def boards(house: Observed, seconds: float) -> Mapping[str, BoardData]:
    """What each dashboard shows of the last seconds."""
    end = time.time()
    asked = Request(end - seconds, end, step=0, scrape=0, points=40, chosen={})
    async with Prometheus(house.prometheus) as prometheus:
        return {module.UID: await shown(module, prometheus, asked) for module in OURS}


async def shown(module: ModuleType, prometheus: Prometheus, asked: Request) -> BoardData:
    return await gather(read_board(orjson.loads((OUT / f"{module.UID}.json").read_bytes())), prometheus, asked)


def empty(found: Mapping[str, BoardData]) -> Iterator[str]:
    for uid, board in found.items():
        for data in board.panels:
            if data.queries and not any(series.points for series in data.series):
                yield f"{uid}: {data.panel.title}"


async def test_every_panel_of_the_application_shows_something(seen):
    assert not [error for board in seen.values() for error in board.errors]
    assert sorted(empty(seen)) == []


async def test_a_page_is_pending_fires_is_told_and_resolves(house, seen):
    """The fault spends the month's failed requests at more than fourteen times the rate that they may."""
    states = await house.query(f'max by (alertstate) (max_over_time(ALERTS{{alertname="{PAGE}"}}[5m]))')
    assert {each["metric"]["alertstate"] for each in states} == {"pending", "firing"}
    await house.until_told(PAGE, "firing")
    fired = next(each for each in house.webhook.told(PAGE, "firing") if each["labels"]["window"] == "1h")
    assert (fired["labels"]["severity"], fired["labels"]["phase"]) == ("page", "small")
    assert fired["annotations"]["runbook_url"].endswith(f"/alerts/{PAGE}.md")
    assert fired["annotations"]["dashboard_url"].endswith("/d/trellis-slo")

    async def resolved() -> bool:
        return any(each["labels"]["window"] == "1h" for each in house.webhook.told(PAGE, "resolved"))

    async with house.load():
        await until(resolved, "the webhook is told that users are served again", 120)


async def test_the_model_is_named_as_the_cause(house, seen):
    """The same fault makes a ticket that says whose it is, beside the page that says that users suffer."""
    assert house.webhook.told("ModelErrors", "firing") or house.webhook.told("BreakerOpen", "firing")


async def test_the_trace_of_an_exemplar_exists(house, seen):
    found = await exemplars(house, "trellis_time_to_answer_seconds_bucket")
    assert found
    reader = TraceReader(house.server.home)
    newest = max(found, key=lambda each: float(each["timestamp"]))

    async def kept() -> bool:
        return bool(reader.spans(newest["labels"]["trace_id"]))

    await until(kept, "the trace of the newest exemplar is kept", 10)
    spans = reader.spans(newest["labels"]["trace_id"])
    assert any(span.name.startswith(("POST /v1/", "job ")) for span in spans)


async def exemplars(house: Observed, metric: str) -> list[dict[str, Any]]:
    asked = {"query": metric, "start": str(time.time() - 300), "end": str(time.time())}
    async with house.web.get(f"{house.prometheus}/api/v1/query_exemplars", params=asked) as response:
        return [each for series in (await response.json())["data"] for each in series["exemplars"]]


async def test_one_request_is_one_connected_trace_through_the_job_to_the_model(house):
    request_id = "req-observed-from-the-outside"
    body = {
        "name": "Ada Lind",
        "email": "ada@example.org",
        "message": "What does the Operate plan cost for 40 sensors?",
    }
    accepted = await house.client.post("/v1/leads", body, Idempotency_Key=request_id, X_Request_ID=request_id)
    assert accepted.status == 201, accepted
    reader, found = TraceReader(house.server.home), list[KeptSpan]()

    async def whole() -> bool:
        found[:] = [span for trace in reader.find(request_id) for span in reader.spans(trace)]
        return any(span.name == "job leads.decide" for span in found)

    await until(whole, "the trace of the lead is kept, its jobs with it")
    assert len({span.trace for span in found}) == 1
    ids = {span.span for span in found}
    assert [span.name for span in found if span.parent not in ids] == ["POST /v1/leads"]
    names = {span.name.split(" ")[0] for span in found}
    assert {"POST", "enqueue", "job", "invoke_agent", "retrieval", "embeddings", "chat", "execute_tool"} <= names
    assert {span.attributes.get("db.system.name") for span in found} >= {"sqlite", "qdrant"}
    printed = await asyncio.to_thread(trellis, house.server.home, house.server.port, "trace", request_id)
    assert "POST /v1/leads" in printed.stdout
    assert "job leads.decide" in printed.stdout
