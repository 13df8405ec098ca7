"""What `/metrics` exposes after real work: valid for Prometheus, bounded, and free of people."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.telemetry.metrics import foreign_label_values
from tests.support.components import require
from tests.support.service import Service, lead, running

PLANTED = ("4111 1111 1111 1111", "+49 30 23125 417", "planted.person@example.org", "Planted Person")


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path) as service:
        yield service


async def exposed(service: Service) -> str:
    return (await service.client.get("/metrics")).text


async def work(service: Service, count: int) -> None:
    messages = [f"What does plan {n} cost? Call {PLANTED[1]}, card {PLANTED[0]}" for n in range(count)]
    made = [
        (await service.client.post("/v1/leads", json=lead(message=text, email=PLANTED[2], name=PLANTED[3]))).json()
        for text in messages
    ]
    await service.decided([one["lead"]["id"] for one in made])
    await service.client.get("/v1/nowhere")


async def test_prometheus_finds_no_fault_in_the_exposition(service: Service) -> None:
    await work(service, 3)
    promtool = require("promtool")
    text = await exposed(service)
    found = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    ours = [line for line in found.stderr.splitlines() if line.startswith("trellis_")]
    assert ours == []
    assert found.returncode in (0, 3)  # 3: advice on the client library's own series


async def test_labels_hold_listed_values_and_no_person(service: Service) -> None:
    await work(service, 3)
    assert list(foreign_label_values(service.container.metrics.registry)) == []
    text = await exposed(service)
    assert not [one for one in (*PLANTED, "lead_0", "key_0", "acme") if one in text]


async def test_more_leads_make_no_more_series(service: Service) -> None:
    await work(service, 3)
    await work(service, 3)  # the caches' hits
    await exposed(service)  # whose own request is a series too
    before = series(await exposed(service))
    await work(service, 6)
    assert series(await exposed(service)) == before


def series(text: str) -> set[str]:
    return {line.rsplit(" ", 1)[0] for line in text.splitlines() if line.startswith("trellis_")}


async def test_a_decision_is_counted_and_timed(service: Service) -> None:
    await work(service, 1)
    registry = service.container.metrics.registry
    decided = [s for m in registry.collect() for s in m.samples if s.name == "trellis_decisions_total"]
    assert sum(sample.value for sample in decided) == 1
    assert registry.get_sample_value("trellis_own_share_seconds_count", {"pack": "leads"}) == 1
    assert registry.get_sample_value("trellis_leads_received_total", {"source": "web_form"}) == 1
