"""`trellis worker` beside an API that is behind PgBouncer, with the logins of a deployment."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.probe import ask
from app.settings import PREFIX, load_settings
from tests.integration.processes.test_ending import furnished
from tests.support.jobs import until
from tests.support.pgbouncer import running_pgbouncer
from tests.support.postgres import PostgresServer
from tests.support.server import ApiProcess, Server, WorkerProcess, free_port

LEADS = 5


def environment(settings: dict[str, Any]) -> dict[str, str]:
    return {f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items()}


@dataclass
class Deployment:
    """An API without a worker, and a worker, each with a folder of its own."""

    api: Server
    worker: WorkerProcess
    key: str
    database: str
    primary: PostgresServer
    settings: dict[str, Any]

    def workers(self) -> int:
        return int(self.primary.scalar("SELECT count(*) FROM job_workers", self.database))

    def send(self, first: int) -> None:
        for number in range(first, first + LEADS):
            lead = f'{{"name": "Ada", "email": "ada{number}@example.com", "message": "How much is a sensor?"}}'
            headers = {"Idempotency_Key": f"lead-{number}", "Content_Type": "application/json"}
            self.api.call("/v1/leads", self.key, lead.encode(), **headers)

    def waiting(self) -> int:
        return int(self.api.call("/v1/leads/counts", self.key)["by_status"]["new"])


@pytest.fixture
async def deployment(postgres_server: PostgresServer, tmp_path: Path) -> AsyncIterator[Deployment]:
    found = postgres_server.new_database(migrated=True)
    with running_pgbouncer(postgres_server.port) as pooler:
        settings = {
            "database_url": pooler.url(found.name),
            "database_direct_url": found.app_url,
            "database_owner_url": found.owner_url,
            "database_pooled": "true",
            "log_level": "WARNING",
        }
        key = await furnished(load_settings({}, home=tmp_path / "here", **settings))
        more = environment(settings)
        api, worker = tmp_path / "api", tmp_path / "worker"
        api.mkdir()
        worker.mkdir()
        with (
            ApiProcess(api, free_port(), **more) as serving,
            WorkerProcess(worker, free_port(), **more) as working,
        ):
            await asyncio.to_thread(serving.wait_ready)
            await asyncio.to_thread(working.wait_ready)
            yield Deployment(serving, working, key, found.name, postgres_server, more)
    postgres_server.drop_database(found.name)


async def test_a_worker_does_what_an_api_behind_a_pooler_enqueues_says_how_it_is_and_leaves_by_sigterm(
    deployment: Deployment,
) -> None:
    worker = deployment.worker
    await asyncio.to_thread(deployment.send, 0)
    await until(lambda: asyncio.to_thread(lambda: deployment.waiting() == 0), "every lead is decided")
    assert deployment.workers() == 1
    here = load_settings({}, port=worker.port)
    for path in ("/healthz", "/startupz", "/readyz"):
        assert (await asyncio.to_thread(ask, here, path))[0]
    metrics = await asyncio.to_thread(worker.text, "/metrics")
    assert 'trellis_jobs_finished_total{outcome="done",task="leads.decide"} ' in metrics
    assert await asyncio.to_thread(worker.terminate) == 0
    assert deployment.workers() == 0  # it signed off: nobody has to take it for dead first
    assert ask(here, "/healthz")[1].startswith("Nothing that is Trellis answers")
    # What comes now waits for the next one.
    await asyncio.to_thread(deployment.send, LEADS)
    with WorkerProcess(worker.home, worker.port, **deployment.settings) as second:
        await asyncio.to_thread(second.wait_ready)
        await until(lambda: asyncio.to_thread(lambda: deployment.waiting() == 0), "every lead is decided")
    assert "Traceback" not in (deployment.api.home / "server.log").read_text()
