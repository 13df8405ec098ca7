"""Prometheus, Alertmanager and a webhook, on free ports of this machine; each ended with its block."""

import subprocess
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from aiohttp import web

from alerts.generate import rule_files
from alerts.model import Pace, Site
from tests.support.components import COMPONENTS
from tests.support.on_loopback import on_loopback
from tests.support.processes import wait_until
from tests.support.server import free_port

READY_S = 180.0


@dataclass
class Webhook:
    """Where Alertmanager tells: `alerts` holds each alert of each message, oldest first, with its receiver."""

    alerts: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        message = await request.json()
        self.alerts += [{**alert, "receiver": message["receiver"]} for alert in message["alerts"]]
        return web.Response()

    def told(self, name: str, status: str) -> list[dict[str, Any]]:
        """`status`: firing or resolved."""
        return [each for each in self.alerts if each["labels"]["alertname"] == name and each["status"] == status]


@asynccontextmanager
async def listening() -> AsyncIterator[Webhook]:
    """A webhook on this machine."""
    webhook, app = Webhook(), web.Application()
    app.router.add_post("/", webhook.take)
    async with on_loopback(app) as address:
        webhook.url = f"{address}/"
        yield webhook


@contextmanager
def running_alertmanager(folder: Path, webhook: str) -> Iterator[int]:
    """The port of an Alertmanager that tells everything to one webhook at once, and also what is resolved."""
    folder.mkdir(parents=True)
    port = free_port()
    route = {
        "receiver": "all",
        "group_by": ["..."],
        "group_wait": "0s",
        "group_interval": "1s",
        "repeat_interval": "1h",
    }
    receiver = {"name": "all", "webhook_configs": [{"url": webhook, "send_resolved": True}]}
    config = folder / "alertmanager.yaml"
    config.write_text(yaml.safe_dump({"route": route, "receivers": [receiver]}))
    arguments = [
        f"--config.file={config}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with program("alertmanager", folder, arguments, f"http://127.0.0.1:{port}/-/ready"):
        yield port


@contextmanager
def running_prometheus(
    folder: Path,
    site: Site,
    ports: Mapping[str, int],
    scrape_s: float = 1.0,
    several: Mapping[str, Sequence[int]] = MappingProxyType({}),
    rules_of: Callable[[Site], Mapping[str, str]] = rule_files,
) -> Iterator[int]:
    """The port of a Prometheus that scrapes `ports` (by job; its own and Alertmanager's among them), and evaluates
    the site's rules as often. `several`: jobs with several processes each. `rules_of`: which of the site's rules."""
    folder.mkdir(parents=True)
    jobs = {**{job: [port] for job, port in ports.items()}, **several}
    for name, rules in rules_of(site).items():
        (folder / name).write_text(_about(rules, jobs))
    every = Pace()(scrape_s)
    own = {"scrape_interval": every, "evaluation_interval": every, "scrape_timeout": every}
    config = {
        "global": own,
        "rule_files": [f"{folder}/*.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [_target(ports["alertmanager"])]}]},
        "scrape_configs": [{"job_name": job, "static_configs": [_target(*found)]} for job, found in jobs.items()],
    }
    # Not .yaml: what ends so are rules.
    written = folder / "prometheus.yml"
    written.write_text(yaml.safe_dump(config))
    arguments = [
        f"--config.file={written}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
        "--enable-feature=exemplar-storage",
    ]
    with program("prometheus", folder, arguments, f"http://127.0.0.1:{ports['prometheus']}/-/ready"):
        yield ports["prometheus"]


def _target(*ports: int) -> dict[str, list[str]]:
    return {"targets": [f"127.0.0.1:{port}" for port in ports]}


def _about(rules: str, jobs: Iterable[str]) -> str:
    """Without the alerts about jobs that do not run here, such as node_exporter."""
    document = yaml.safe_load(rules)
    for group in document["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule.get("labels", {}).get("job") in (None, *jobs)]
    return yaml.safe_dump(document, sort_keys=False)


@contextmanager
def program(component: str, folder: Path, arguments: Sequence[str], ready: str) -> Iterator[None]:
    """One of the components, ready; ended by its id. What it says is in its folder."""
    found = COMPONENTS[component].find()
    assert found is not None, f"{component} is not installed"
    log = folder / f"{component}.log"
    with log.open("ab") as written:
        process = subprocess.Popen([str(found), *arguments], stdout=written, stderr=written, cwd=folder)
        try:
            wait_until(lambda: process.poll() is not None or answers(ready), f"{component} is ready", READY_S)
            assert process.poll() is None, f"{component} ended: {log.read_text()[-2000:]}"
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False
