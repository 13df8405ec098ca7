"""What a member's turn leaves in logs and spans: no address, no number of a policy or claim, no word of theirs."""

import io
import re

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.governance.privacy import scrub
from app.telemetry import names, spans
from app.telemetry.logs import configure_logs
from app.telemetry.masking import MaskedExporter
from tests.support.claims import ask, chat, load_sample, signed_in
from tests.support.service import running

QUESTION = (
    "Status of claim CL-2026-700111 of my policy-free life? I am ada.hartmann@members.example, "
    "and my secret word is Zanzibar."
)
FORBIDDEN = re.compile(r"CL-2026|HH-2023|ada\.hartmann|members\.example|Zanzibar|eyJ", re.IGNORECASE)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    masked = MaskedExporter(exporter, scrub, Resource.get_empty(), lambda _result, _spans: None)
    provider.add_span_processor(SimpleSpanProcessor(masked))
    monkeypatch.setattr(spans, "tracer", lambda: provider.get_tracer("test"))
    return exporter


async def test_a_turn_leaves_nothing_that_names_a_member_or_a_contract(tmp_path, recorded):
    async with running(tmp_path, knowledge=False) as service:
        await load_sample(service)
        lines = io.StringIO()
        configure_logs(as_json=True, level="DEBUG", scrub=scrub, stream=lines)
        who = await signed_in(service, "m-1001")
        answer = await ask(service, who, QUESTION)
        assert "CL-2026-700111" in answer["text"], "the member sees what the logs do not"
        await ask(service, who, "Which policies do I have?")
        assert (await service.client.get("/v1/claims/CL-2026-700111", headers=who)).status_code == 200
        assert (await service.client.get("/v1/claims/cl-2026-999999", headers=who)).status_code == 404
        await chat(service, {"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.AAAA"}, QUESTION)
    logged = lines.getvalue()
    assert "/v1/claims/chat" in logged
    assert '"path":"/v1/claims/[number]"' in logged
    assert "user:m-1001" in logged
    assert FORBIDDEN.findall(logged) == []
    told = [
        f"{span.name} {dict(span.attributes or {})} {span.events} {span.status}"
        for span in recorded.get_finished_spans()
    ]
    opened = {span.name.split()[0] for span in recorded.get_finished_spans()}
    assert opened >= {names.EXECUTE_TOOL, names.CHAT, names.INVOKE_AGENT, "GET", "POST"}
    assert [one for one in told if FORBIDDEN.search(one)] == []
