"""Whoever writes their address, telephone, card or policy number anywhere: no log line, span, metric or alert has it.

One service over real HTTP parts, a model that repeats what it was told, fails and calls made-up tools, and a collector
that keeps what leaves the process. What is looked at is the raw text of the log, of `/metrics` and of OTLP's bodies.
"""

import asyncio
import io
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import pytest_asyncio
import yaml

from app.governance.privacy import scrub
from app.packs.leads.service import LeadService
from app.telemetry.logs import configure_logs
from app.telemetry.metrics import foreign_label_values
from app.telemetry.setup import log_counter
from loadtest.stub.answers import Message, text, tool_calls
from loadtest.stub.server import KEY, ModelStub, error
from tests.support.claims import a_member, chat, signed_in
from tests.support.collector import Backend
from tests.support.server import ROOT
from tests.support.service import WAIT_S, Service, lead, running

MAIL, PHONE, CARD = "ann.lee@planted.example", "+49 171 2345678", "4111 1111 1111 1111"
MARK = 70011
POLICY, CLAIM = f"HH-2024-{MARK}01", f"CL-2026-{MARK}01"
PLANTED = f"I am {MAIL}, call {PHONE}, my card is {CARD}, my policy {POLICY}, my claim {CLAIM}."
IN_A_PATH = f"{MAIL}/{PHONE}/{CARD}/{POLICY}"
# However it is written: with other breaks, as JSON or as an address has it.
SEEN = re.compile(
    rb"planted\.example|171[ +%20-]*2345678|4111[ +%20-]*1111[ +%20-]*1111|HH-2024-7001|CL-2026-7001", re.IGNORECASE
)
HEADERS = {
    "User-Agent": PLANTED,
    "X-Request-Id": MAIL,
    "Idempotency-Key": f"{MAIL}-{POLICY}",
    "Referer": f"https://{MAIL}/{CARD.replace(' ', '')}",
    "baggage": f"user={MAIL}",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": f"vendor={MAIL.replace('@', '-')}",
}
pytestmark = pytest.mark.asyncio(loop_scope="module")


def says(body: Mapping[str, Any]) -> Message:
    """Tools are called with what was planted, one of them made up; then everything is repeated."""
    if body.get("tools") and body["messages"][-1]["role"] != "tool":
        arguments = orjson.dumps({"query": PLANTED, "number": POLICY, MAIL: CARD}).decode()
        offered = body["tools"][0]["function"]["name"]
        return tool_calls((offered, arguments), (f"find_{MAIL}", arguments), (POLICY, "{}"))(body)
    return text(PLANTED)(body)


@dataclass(frozen=True)
class Left:
    """What the process left behind, as it was written or sent."""

    log: bytes
    spans: bytes
    pushed: bytes
    scraped: tuple[bytes, ...]
    names: frozenset[str]
    foreign: tuple[str, ...]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def left(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Left]:
    lines = io.StringIO()
    with Backend() as collector:
        async with ModelStub(answer=says) as model:
            home = tmp_path_factory.mktemp("personal")
            settings = {"otlp_url": collector.url, "metrics_otlp": True, "trace_sample": 1.0}
            model_settings = {"model_url": model.url, "model_name": "stub", "model_key": KEY}
            prices = {"model_input_usd_per_million": 1.0, "model_output_usd_per_million": 1.0}
            async with running(home, knowledge=False, **settings, **model_settings, **prices) as service:
                counted = log_counter(service.container.metrics)
                configure_logs(as_json=True, level="DEBUG", scrub=scrub, stream=lines, counted=counted)
                await everything(service, model)
                scraped = [
                    (await service.client.get("/metrics", headers={"Accept": accept})).content
                    for accept in ("text/plain", "application/openmetrics-text; version=1.0.0")
                ]
                foreign = tuple(foreign_label_values(service.container.metrics.registry))
        bodies = {path: b"".join(found) for path, found in collector.bodies.items()}
        names = frozenset(span.name for span in collector.spans())
    yield Left(lines.getvalue().encode(), bodies["/v1/traces"], bodies["/v1/metrics"], tuple(scraped), names, foreign)


async def everything(service: Service, model: ModelStub) -> None:
    service.client.headers.update(HEADERS)
    await leads(service, model)
    await conversations(service)
    await claims(service)
    await astray(service)


async def leads(service: Service, model: ModelStub) -> None:
    planted = {"name": f"Ann {PHONE}", "email": MAIL, "company": POLICY, "message": PLANTED}
    for number, fault in enumerate((None, error(400, f"You sent {PLANTED}"))):
        model.faults.extend([fault] * 3 if fault else [])
        made = await service.client.post(
            "/v1/leads", json=lead(**planted), headers={"Idempotency-Key": f"{number}{MAIL}"}
        )
        assert made.status_code == 201, made.text
        await undecided(service, made.json()["lead"]["id"])


async def undecided(service: Service, lead_id: str) -> None:
    """Returns once the job gave the lead up."""
    async with asyncio.timeout(WAIT_S):
        while (await service.client.get(f"/v1/leads/{lead_id}")).json()["status"] != "escalated":
            await asyncio.sleep(0.05)


async def conversations(service: Service) -> None:
    await service.client.put("/v1/bots/desk", json={"tools": ["knowledge_search"], "instructions": PLANTED})
    page = {"slug": "page", "title": PLANTED, "text": f"# Holidays\n\nEverybody has 28 days. {PLANTED}"}
    await service.client.post("/v1/bots/desk/documents", json=page, headers={"Idempotency-Key": f"doc-{POLICY}"})
    for streamed in (False, True):
        for _ in range(2):
            body = {"message": f"How many days of holiday? {PLANTED}", "stream": streamed}
            await service.client.post("/v1/bots/desk/chat", json=body)
    for bot in (MAIL, POLICY, CARD):
        await service.client.post(f"/v1/bots/{bot}/chat", json={"message": PLANTED})


async def claims(service: Service) -> None:
    member = a_member("m-7", MARK, email=MAIL)
    put = await service.client.put("/v1/claims/members", json={"members": [member]})
    assert put.status_code == 200, put.text
    who = await signed_in(service, "m-7")
    assert (await chat(service, who, PLANTED)).status_code == 200
    for number in (CLAIM, POLICY, MAIL):
        await service.client.get(f"/v1/claims/{number}", headers=who)


async def astray(service: Service) -> None:
    """What is nowhere, what is wrong, and what breaks with words of ours."""
    for path in (f"/v1/leads/{IN_A_PATH}", f"/nowhere/{IN_A_PATH}", f"/v1/leads/{MAIL}"):
        await service.client.get(path, params={"q": PLANTED, MAIL: CARD})
    await service.client.request("BREW", f"/v1/leads/{MAIL}")
    await service.client.post("/v1/leads", json={MAIL: PLANTED})
    await service.client.get("/v1/leads", headers={"Authorization": f"Bearer {PLANTED}"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LeadService, "page", breaks)
        assert (await service.client.get("/v1/leads")).status_code == 500


async def breaks(*_arguments: object) -> None:
    raise RuntimeError(PLANTED)


async def test_the_log_holds_nothing_that_was_planted(left: Left) -> None:
    assert SEEN.findall(left.log) == []
    written = [orjson.loads(line) for line in left.log.splitlines()]
    assert {"request"} <= {line["event"] for line in written}
    assert {200, 201, 401, 404, 422, 500} <= {line.get("status") for line in written}
    assert "RuntimeError" in left.log.decode()


async def test_no_span_holds_anything_that_was_planted(left: Left) -> None:
    assert SEEN.findall(left.spans) == []
    assert {"invoke_agent leads", "invoke_agent chat", "invoke_agent claims", "chat stub"} <= left.names
    assert any(name.startswith("execute_tool") for name in left.names)


async def test_no_metric_holds_anything_that_was_planted(left: Left) -> None:
    assert left.foreign == ()
    for exposition in (*left.scraped, left.pushed):
        assert SEEN.findall(exposition) == []
        assert b"trellis_decisions" in exposition
    assert b'tool="unknown"' in left.scraped[0]


async def test_an_exemplar_leads_to_a_trace_that_was_sent(left: Left) -> None:
    found = set(re.findall(rb'trace_id="([0-9a-f]{32})"', left.scraped[1]))
    assert found
    assert all(bytes.fromhex(trace_id.decode()) in left.spans for trace_id in found)


def annotated() -> Iterator[str]:
    """Every text of an alert that holds a template."""
    for path in (ROOT / "alerts" / "rules").rglob("*.yaml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                for text_ in (*rule.get("annotations", {}).values(), *rule.get("labels", {}).values()):
                    if "{{" in str(text_):
                        yield str(text_)


async def test_an_alert_says_only_what_labels_and_values_of_metrics_say() -> None:
    templates = [part for text_ in annotated() for part in re.findall(r"{{(.*?)}}", text_)]
    assert templates
    allowed = re.compile(r"\s*(\$labels\.\w+|\$value|\$externalLabels\.\w+)(\s*\|\s*\w+(\s+\S+)*)*\s*")
    assert [one for one in templates if not allowed.fullmatch(one)] == []
