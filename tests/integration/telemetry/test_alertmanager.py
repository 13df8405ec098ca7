"""A real Alertmanager with our routes, its waits sixty times shorter, and webhooks in the place of pager and chat."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from alerts.model import Pace
from alerts.routes import TEMPLATES, Receiver, document
from tests.support.components import require
from tests.support.monitoring import Webhook, listening, program
from tests.support.server import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATIENCE_S = 30.0
PLACE = {"phase": "multi-region", "region": "eu"}


@dataclass
class Told:
    """Alertmanager, and what reached whom."""

    url: str
    webhook: Webhook

    async def post(self, *alerts: dict[str, str], over: bool = False) -> None:
        now = datetime.now(UTC)
        ends = now - timedelta(seconds=1) if over else now + timedelta(hours=1)
        body = [
            {
                "labels": {**PLACE, **labels},
                "annotations": {"summary": "It is so", "runbook_url": "https://r"},
                "startsAt": (now - timedelta(minutes=1)).isoformat(),
                "endsAt": ends.isoformat(),
            }
            for labels in alerts
        ]
        async with aiohttp.ClientSession() as http, http.post(f"{self.url}/api/v2/alerts", json=body) as answer:
            assert answer.status == 200, await answer.text()

    async def inhibited(self, name: str, **labels: str) -> bool:
        """Whether Alertmanager holds an alert with these labels back because of another."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/api/v2/alerts") as answer:
            found = [a for a in await answer.json() if {"alertname": name, **labels}.items() <= a["labels"].items()]
        return bool(found) and all(alert["status"]["inhibitedBy"] for alert in found)

    def reached(self, name: str, status: str = "firing", **labels: str) -> list[str]:
        told = self.webhook.told(name, status)
        return [alert["receiver"] for alert in told if labels.items() <= alert["labels"].items()]


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    require("alertmanager")
    folder, port = tmp_path_factory.mktemp("alertmanager"), free_port()
    (folder / TEMPLATES.name).write_text(TEMPLATES.read_text())
    async with listening() as webhook:

        def sink(_receiver: Receiver) -> dict[str, Any]:
            return {"webhook_configs": [{"url": webhook.url, "send_resolved": True}]}

        config = folder / "alertmanager.yaml"
        config.write_text(yaml.safe_dump(document(sink, pace=Pace(60), hours=False)))
        url = f"http://127.0.0.1:{port}"
        with program("alertmanager", folder, _arguments(config, folder, port), f"{url}/-/ready"):
            yield Told(url, webhook)


def _arguments(config: Path, folder: Path, port: int) -> list[str]:
    where = [f"--config.file={config}", f"--storage.path={folder / 'data'}"]
    return [*where, f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]


def alert(name: str, severity: str, team: str, **more: str) -> dict[str, str]:
    return {"alertname": name, "severity": severity, "team": team, **more}


async def test_a_page_reaches_the_pager_and_a_ticket_the_chat_of_its_team(told: Told) -> None:
    await told.post(alert("NodeDiskFull", "page", "platform", instance="a"))
    await told.post(alert("CostAboveBudget", "ticket", "business"))
    await until(lambda: told.reached("NodeDiskFull") and told.reached("CostAboveBudget"))
    assert set(told.reached("NodeDiskFull")) == {"pager-platform"}
    assert set(told.reached("CostAboveBudget")) == {"chat-business"}


async def test_what_is_over_is_told_where_it_was_told_before(told: Told) -> None:
    burning = alert("KubeVolumeFull", "page", "platform", persistentvolumeclaim="data")
    await told.post(burning)
    await until(lambda: told.reached("KubeVolumeFull"))
    await told.post(burning, over=True)
    await until(lambda: told.reached("KubeVolumeFull", "resolved"))
    assert told.reached("KubeVolumeFull", "resolved") == ["pager-platform"]


async def test_a_region_that_is_down_silences_its_parts_and_no_others(told: Told) -> None:
    await told.post(alert("RegionDown", "page", "platform", region="us"))
    await until(lambda: told.reached("RegionDown"))
    await told.post(alert("PostgresDown", "page", "data", region="us", instance="a"))
    await told.post(alert("PostgresDown", "page", "data", region="asia", instance="b"))
    await until(lambda: told.reached("PostgresDown", region="asia"))
    assert await told.inhibited("PostgresDown", region="us")
    assert told.reached("PostgresDown", region="us") == []


async def test_a_budget_that_burns_fast_silences_the_ticket_of_the_same_slo_alone(told: Told) -> None:
    await told.post(alert("AvailabilityBudgetBurn", "page", "api", window="1h"))
    await until(lambda: told.reached("AvailabilityBudgetBurn"))
    await told.post(alert("AvailabilityBudgetBurn", "ticket", "api", window="3d"))
    await told.post(alert("LatencyBudgetBurn", "ticket", "api", window="3d"))
    await until(lambda: told.reached("LatencyBudgetBurn"))
    assert await told.inhibited("AvailabilityBudgetBurn", severity="ticket")
    assert set(told.reached("AvailabilityBudgetBurn")) == {"pager-api"}


async def test_a_node_that_is_not_ready_silences_what_ran_on_it(told: Told) -> None:
    await told.post(alert("KubeNodeNotReady", "ticket", "platform", node="node-a"))
    await until(lambda: told.reached("KubeNodeNotReady"))
    crashing = alert("KubePodCrashLooping", "ticket", "platform", pod="api-0")
    await told.post({**crashing, "node": "node-a"}, {**crashing, "node": "node-b"})
    await until(lambda: told.reached("KubePodCrashLooping", node="node-b"))
    assert await told.inhibited("KubePodCrashLooping", node="node-a")
    assert told.reached("KubePodCrashLooping", node="node-a") == []


async def test_the_heartbeat_goes_on_by_itself_and_reaches_nobody_else(told: Told) -> None:
    await told.post(alert("Watchdog", "none", "platform"))
    await until(lambda: len(told.reached("Watchdog")) >= 2)
    assert set(told.reached("Watchdog")) == {"heartbeat"}


async def test_people_hear_of_a_broken_way_by_the_other_one_too(told: Told) -> None:
    await told.post(alert("AlertmanagerNotificationsFailing", "page", "platform", integration="pagerduty"))
    await until(lambda: len(set(told.reached("AlertmanagerNotificationsFailing"))) == 2)
    assert set(told.reached("AlertmanagerNotificationsFailing")) == {"pager-platform", "chat-platform"}
