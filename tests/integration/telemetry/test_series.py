"""What `/metrics` of a running service holds: no more series for more people, and each metric where there is work."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from app.agent.tools import ToolCallPlan
from app.http.rates import RateLimits, RatePlan
from app.main import create_app
from app.principal import Principal, Role, Tier
from app.telemetry.metrics import CATALOGUE, foreign_label_values
from tests.support.claims import a_member, ask, signed_in
from tests.support.service import TENANT, Service, httpx2, lead, running

REQUESTS = 1_000
NO_LIMIT = 1_000_000
ADMIN = Principal(TENANT, "test", Role.ADMIN)
VERBS = ("BREW", "PROPFIND", "LINK", "PURGE", "REPORT", "SEARCH", "VIEW", "LOCK", "MOVE", "COPY")
# Set by what one process on the embedded default does not do; what sets them has tests of its own.
ELSEWHERE = {
    "database_reads": "needs a replica",
    "redis_away": "needs Redis",
    "redis_fallbacks": "needs Redis",
    "model_fallbacks": "needs two providers",
    "model_retries": "needs a provider that fails",
    "model_first_token_seconds": "needs a provider that streams",
    "rate_limited": "needs more requests than a tier allows",
    "budget_refusals": "needs a spent budget",
    "metric_pushes": "needs a collector",
    "breaker_opened": "needs a part that fails again and again",
    "log_events": "services of tests log errors alone",
    "mcp_calls": "needs a server of MCP",
    "mcp_call_duration_seconds": "needs a server of MCP",
    "quarantined_chunks": "needs a document with instructions to the agent",
    "teams_health_scores": "needs the nightly job",
    "teams_syncs": "needs the nightly job",
    "cache_saved_usd": "needs a model that costs",
    "model_cost_usd": "needs a model that costs",
    "run_cost_usd": "needs a model that costs",
}
APART = ("treatments_", "teams_", "message")
"""Of packs whose runs take longer than this test may: their own tests count them."""
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with running(tmp_path_factory.mktemp("series")) as found:
        container = found.container
        container.rates = RateLimits(container.metrics, plan=RatePlan(dict.fromkeys(Tier, NO_LIMIT), NO_LIMIT))
        found.client._transport = httpx2.ASGITransport(create_app(container))
        await work(found)
        yield found


async def work(service: Service) -> None:
    """Something of everything that one process does by itself."""
    client = service.client
    made = (await client.post("/v1/leads", json=lead())).json()["lead"]["id"]
    [decided] = await service.decided([made])
    await client.post(f"/v1/leads/{made}/outcome", json={"kind": "converted", "value_usd": 10})
    judged = {"thumb": "up", "csat": 5, "escalation_necessary": False}
    assert (await client.post(f"/v1/leads/{made}/feedback", json=judged)).status_code == 201
    page = {"slug": "leave", "title": "Leave", "text": "# Leave\n\nEverybody has 28 days of paid leave a year."}
    await client.post("/v1/bots/notes/documents", json=page)
    await service.container.kit.ingestor.put(TENANT, "docs", "leave", "Leave", page["text"])
    for streamed in (False, False, True, True):
        body = {"message": "How many days of paid leave does everybody have?", "history": [], "stream": streamed}
        assert (await client.post("/v1/bots/docs/chat", json=body)).status_code == 200
    await client.put("/v1/claims/members", json={"members": [a_member("m-1", 70011)]})
    await ask(service, await signed_in(service, "m-1"), "Which policies do I have?")
    await client.get("/readyz")
    for number in range(2 * len(KINDS)):
        await one_of(service, number)
    assert decided["decisions"]


async def one_of(service: Service, number: int) -> None:
    await KINDS[number % len(KINDS)](service, f"somebody-{number}")


async def chat(service: Service, who: str) -> Any:
    body = {"message": f"I am {who}: who are you?"}
    return await service.client.post(f"/v1/bots/{who}/chat", json=body, headers={"User-Agent": who})


async def nowhere(service: Service, who: str) -> Any:
    return await service.client.get(f"/{who}/{who}.php", params={"q": who, who: "1"})


async def no_lead(service: Service, who: str) -> Any:
    return await service.client.get(f"/v1/leads/{who}", headers={"X-Request-Id": who})


async def verb(service: Service, who: str) -> Any:
    return await service.client.request(VERBS[int(who.rpartition("-")[2]) % len(VERBS)], f"/v1/leads/{who}")


async def token(service: Service, who: str) -> Any:
    return await service.client.post(f"/v1/users/{who}/token")


async def stranger(service: Service, who: str) -> Any:
    headers = {"Authorization": f"Bearer {who}", "X-Forwarded-For": f"10.0.{len(who)}.1"}
    return await service.client.get("/v1/leads", headers=headers)


async def tool(service: Service, who: str) -> Any:
    return await service.container.kit.executor.execute(ADMIN, who, [ToolCallPlan(f"find_{who}", {who: who}, who)])


KINDS = (chat, nowhere, no_lead, verb, token, stranger, tool)


async def exposed(service: Service) -> str:
    return (await service.client.get("/metrics")).text


def series(text: str) -> set[str]:
    return {line.rsplit(" ", 1)[0] for line in text.splitlines() if line.startswith("trellis_")}


async def test_a_thousand_requests_of_as_many_people_add_no_series(service: Service) -> None:
    await exposed(service)  # whose own request is a series too
    before = series(await exposed(service))
    for number in range(2 * len(KINDS), REQUESTS + 2 * len(KINDS)):
        await one_of(service, number)
    text = await exposed(service)
    assert series(text) - before == set()
    assert "somebody" not in text
    assert list(foreign_label_values(service.container.metrics.registry)) == []


async def test_each_metric_has_a_sample_where_there_was_work(service: Service) -> None:
    kept = {
        family.name
        for family in service.container.metrics.registry.collect()
        if any(sample.value for sample in family.samples) or (family.samples and family.type == "gauge")
    }
    due = [spec for spec in CATALOGUE if spec.attribute not in ELSEWHERE and not spec.attribute.startswith(APART)]
    assert [spec.attribute for spec in due if spec.name.removesuffix("_total") not in kept] == []


async def test_a_scraper_that_knows_exemplars_gets_the_format_that_has_them(service: Service) -> None:
    asked = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    found = await service.client.get("/metrics", headers=asked)
    assert found.headers["content-type"].startswith("application/openmetrics-text")
    assert found.text.endswith("# EOF\n")
    assert 'trace_id="' in found.text
    plain = await service.client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert "trace_id" not in plain.text
    assert "_created" not in plain.text


async def test_every_way_to_an_answer_is_timed(service: Service) -> None:
    sample = service.container.metrics.registry.get_sample_value
    ways = [("leads", "whole"), ("chat", "whole"), ("chat", "first_piece"), ("claims", "whole")]
    timed = [sample("trellis_time_to_answer_seconds_count", {"pack": pack, "way": way}) for pack, way in ways]
    assert timed == [1, 2, 2, 1]
    assert sample("trellis_answers_total", {"pack": "chat", "outcome": "answered", "cache": "exact"}) == 3


async def test_what_people_say_of_decisions_is_counted(service: Service) -> None:
    sample = service.container.metrics.registry.get_sample_value
    assert sample("trellis_decision_reviews_total", {"pack": "leads", "verdict": "right"}) == 1
    assert sample("trellis_answer_feedback_total", {"pack": "leads", "helpful": "true"}) == 1
    assert sample("trellis_escalations_total", {"necessary": "false"}) == 1
    assert sample("trellis_lead_outcomes_total", {"kind": "converted"}) == 1
