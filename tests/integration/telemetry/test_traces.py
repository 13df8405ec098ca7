"""One request is one trace, from HTTP to the model and through the queue; where it goes, and what it costs nobody."""

import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from opentelemetry import trace

from app.telemetry.kept import FILE, KeptSpan, TraceReader
from loadtest.stub.server import KEY, ModelStub
from tests.support.collector import Backend
from tests.support.databases import Addresses
from tests.support.jobs import until
from tests.support.redis import RedisServer
from tests.support.server import free_port
from tests.support.service import Service, lead, running

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"
PLANTED = ("planted.person@example.org", "+49 171 7654321", "4111 1111 1111 1111", "POL-00765432")


def flush(service: Service) -> None:
    tracing = service.container.telemetry.tracing
    assert tracing is not None
    tracing.flush()


def above(span: KeptSpan, spans: Sequence[KeptSpan]) -> list[str]:
    """The names of the span's parents, the nearest first."""
    known, found = {one.span: one for one in spans}, []
    while span.parent in known:
        span = known[span.parent]
        found.append(span.name)
    return found


@pytest.fixture
async def model() -> AsyncIterator[ModelStub]:
    async with ModelStub() as stub:
        yield stub


async def decided(service: Service, **headers: str) -> str:
    """The id of a request that a lead came with, once the lead is decided."""
    answer = await service.client.post("/v1/leads", json=lead(), headers=headers)
    assert answer.status_code == 201, answer.text
    await service.decided([answer.json()["lead"]["id"]])
    flush(service)
    return answer.headers["x-request-id"]


async def test_one_request_is_one_connected_trace_through_the_queue_to_the_tools(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        request_id = await decided(service, traceparent=CALLER, baggage="who=planted", tracestate="who=planted")
    (found,) = TraceReader(tmp_path).find(request_id)
    assert found == TRACE, "the caller's trace goes on"
    spans = TraceReader(tmp_path).spans(found)
    by_name = {span.name: span for span in spans}
    chat, tool, search = by_name["chat offline"], by_name["execute_tool email_send"], by_name["search qdrant"]
    way = ["job leads.decide", "enqueue leads.decide", "POST /v1/leads"]
    assert above(chat, spans) == ["invoke_agent leads", *way]
    assert above(tool, spans) == way
    assert above(search, spans) == ["retrieval", *way]
    assert above(by_name["embeddings wordllama-l2-supercat-256"], spans) == ["retrieval", *way]
    statements = [span for span in spans if span.attributes.get("db.system.name") == "sqlite"]
    assert any(above(span, spans)[:1] == ["execute_tool email_send"] for span in statements)
    assert all("POST /v1/leads" in above(span, spans) for span in spans if span.name != "POST /v1/leads")
    assert chat.attributes["gen_ai.usage.input_tokens"] > 0
    assert chat.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert "trellis.decision.id" in by_name["job leads.decide"].attributes
    assert by_name["POST /v1/leads"].attributes["http.response.status_code"] == 201
    assert b"planted" not in (tmp_path / FILE).read_bytes()


async def test_on_servers_the_trace_has_their_statements_and_commands(
    tmp_path: Path, migrated_postgres: Addresses, redis_server: RedisServer
) -> None:
    address = {"database_url": migrated_postgres.app_url, "database_owner_url": migrated_postgres.owner_url}
    async with running(tmp_path, redis_url=redis_server.url, **address) as service:
        request_id = await decided(service)
    (found,) = TraceReader(tmp_path).find(request_id)
    spans = TraceReader(tmp_path).spans(found)
    stores = {span.attributes.get("db.system.name") for span in spans}
    assert {"postgresql", "redis", "qdrant"} <= stores
    assert all("POST /v1/leads" in above(span, spans) for span in spans if span.name != "POST /v1/leads")
    commands = [span for span in spans if span.attributes.get("db.system.name") == "redis"]
    # Commands without their keys and values, which name tenants and people.
    assert all(set(span.attributes["db.query.text"].split()[1:]) <= {"?", *_words(span)} for span in commands)


def _words(span: KeptSpan) -> set[str]:
    """The commands of a pipeline."""
    return {line.split()[0] for line in span.attributes["db.query.text"].splitlines()}


async def test_the_trace_goes_on_to_the_model_and_no_further_word_of_the_caller(
    tmp_path: Path, model: ModelStub
) -> None:
    async with running(tmp_path, model_url=model.url, model_name="m", model_key=KEY, knowledge=False) as service:
        told = {"traceparent": CALLER, "baggage": "who=planted", "tracestate": "who=planted"}
        await service.client.post("/v1/leads", json=lead(), headers=told)
        await until(lambda: bool(model.headers), "the model is asked")
        flush(service)
    asked = [{name.lower(): value for name, value in headers.items()} for headers in model.headers]
    for headers in asked:
        assert headers["traceparent"].split("-")[1] == TRACE
        assert headers["traceparent"].endswith("-01")
        assert "baggage" not in headers
        assert "tracestate" not in headers
    calls = [span for span in TraceReader(tmp_path).spans(TRACE) if span.name == "POST"]
    assert {span.attributes["url.full"] for span in calls} == {f"{model.url}/chat/completions"}


async def test_what_was_planted_is_in_no_span_of_ours_or_of_a_library(tmp_path: Path) -> None:
    async with running(tmp_path, knowledge=False) as service:
        for planted in PLANTED:
            answer = await service.client.get("/v1/leads", params={"email": planted, "cursor": planted})
            assert answer.status_code in (200, 400, 422), answer.text
            await service.client.get(f"/v1/leads/{planted}")
            await service.client.post("/v1/leads", json=lead(name=planted, message=f"I am {planted}, call me"))
        flush(service)
        stored = b"".join(file.read_bytes() for file in tmp_path.glob(f"{FILE}*"))
    assert b"POST /v1/leads" in stored
    for planted in PLANTED:
        assert planted.encode() not in stored, planted
        assert planted.replace("@", "%40").replace(" ", "+").encode() not in stored, planted


async def test_only_what_failed_is_kept_of_traces_that_were_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, trace_sample=0, knowledge=False) as service:
        await service.client.get("/v1/leads", headers={"traceparent": CALLER})

        async def broken(_secret: str) -> None:
            raise RuntimeError("planted words")

        monkeypatch.setattr(service.container.keys, "authenticate", broken)
        failed = await service.client.get("/v1/leads", headers={"Authorization": "Bearer trl_of_nobody_known"})
        assert failed.status_code == 500
        flush(service)
        registry = service.container.metrics.registry
        assert registry.get_sample_value("trellis_spans_total", {"result": "exported"}) == 1
    (kept,) = TraceReader(tmp_path).last(5)
    assert kept.failed
    assert TraceReader(tmp_path).find(failed.headers["x-request-id"]) == [kept.trace]
    (span,) = TraceReader(tmp_path).spans(kept.trace)
    assert span.attributes["http.response.status_code"] == 500


async def test_spans_are_sent_by_otlp_with_what_the_process_is(tmp_path: Path) -> None:
    with Backend() as collector:
        async with running(tmp_path, otlp_url=collector.url, region="eu-central-1", knowledge=False) as service:
            await service.client.get("/v1/leads", headers={"traceparent": CALLER})
        # Closed: what was left has been sent.
        sent = {span.name for span in collector.spans() if span.trace_id.hex() == TRACE}
        told = collector.bodies["/v1/traces"][0]
    assert {"GET /v1/leads", "SELECT"} <= sent
    for about in (
        b"trellis-api",
        b"service.version",
        b"deployment.environment.name",
        b"trellis.phase",
        b"eu-central-1",
    ):
        assert about in told, about
    assert not (tmp_path / FILE).exists(), "with a collector nothing is kept here"


async def test_a_collector_that_is_away_costs_spans_and_nobody_an_error(tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    async with running(tmp_path, otlp_url=away, shutdown_grace_s=2, knowledge=False) as service:
        answers = [await service.client.get("/v1/leads") for _ in range(20)]
        registry, began = service.container.metrics.registry, time.monotonic()
    assert {answer.status_code for answer in answers} == {200}
    lost = [registry.get_sample_value("trellis_spans_total", {"result": one}) or 0 for one in ("failed", "dropped")]
    assert sum(lost) >= 20
    assert (registry.get_sample_value("trellis_spans_total", {"result": "exported"}) or 0) == 0
    # The grace, and what else closes; without the bound it would be 30 s.
    assert time.monotonic() - began < 15


async def test_probes_have_no_trace_and_none_is_open_after_the_container(tmp_path: Path) -> None:
    async with running(tmp_path, knowledge=False) as service:
        for path in ("/healthz", "/readyz", "/metrics"):
            await service.client.get(path)
        flush(service)
        assert TraceReader(tmp_path).last(5) == []
    with trace.get_tracer("test").start_as_current_span("after") as span:
        assert not span.is_recording()
