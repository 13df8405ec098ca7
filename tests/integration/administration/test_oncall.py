"""`trellis oncall` against a real Prometheus, a real Alertmanager's message and a database with a switch thrown."""

import asyncio
import json
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alerts.model import Site
from app.cli import cli
from infra.phases import PHASES, PhaseName
from tests.support.components import require
from tests.support.monitoring import listening, running_alertmanager, running_prometheus
from tests.support.processes import wait_until
from tests.support.server import free_port

EXPOSED = """\
# TYPE trellis_build_info gauge
trellis_build_info{version="9.9.9",phase="poc"} 1
# TYPE trellis_kill_switch gauge
trellis_kill_switch{name="leads"} 1
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1763776800
"""


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(EXPOSED.encode())

    def log_message(self, *_words: object) -> None:
        """Says nothing."""


def has(port: int, query: str) -> bool:
    address = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(address, timeout=5) as answer:
        return bool(json.load(answer)["data"]["result"])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    require("prometheus")
    app = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    threading.Thread(target=app.serve_forever, daemon=True).start()
    ports = {"prometheus": free_port(), "alertmanager": free_port(), "trellis-api": app.server_port}
    folder = tmp_path_factory.mktemp("oncall") / "prometheus"
    try:
        with running_prometheus(folder, Site(PHASES[PhaseName.POC]), ports) as port:
            wait_until(lambda: has(port, 'trellis_kill_switch{name="leads"} == 1'), "a scrape", 60)
            yield port
    finally:
        app.shutdown()
        app.server_close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in which somebody stopped the leads."""
    folder = tmp_path_factory.mktemp("home")
    for words in (["migrate"], ["flags", "set", "kill.leads", "true", "--all-tenants"]):
        done = CliRunner().invoke(cli, words, env={"TRELLIS_HOME": str(folder)})
        assert done.exit_code == 0, done.output
    return folder


def told(argument: str, home: Path, url: str) -> str:
    done = CliRunner().invoke(
        cli, ["oncall", argument], env={"TRELLIS_HOME": str(home), "TRELLIS_PROMETHEUS_URL": url, "COLUMNS": "160"}
    )
    assert done.exit_code == 0, done.output
    return done.output


def test_a_page_has_the_values_of_now_the_version_and_the_switch_with_who_threw_it(prometheus: int, home: Path) -> None:
    text = told("KillSwitchOn", home, f"http://user:hunter2@127.0.0.1:{prometheus}")
    assert "    max by (name) (trellis_kill_switch) == 1\n  = 1  name=leads\n" in text
    assert [line.split()[:2] for line in text.splitlines() if line.startswith("9.9.9")] == [["9.9.9", "before"]]
    assert "Youngest process of job=trellis-api: began 2025-11-22 02:00 UTC" in text
    assert "kill.leads is ON for every tenant, by cli:" in text
    assert "set kill.leads to True." in text
    assert "hunter2" not in text


async def test_the_message_of_a_real_alertmanager_fills_the_commands(
    prometheus: int, home: Path, tmp_path: Path
) -> None:
    require("alertmanager")
    labels = {"alertname": "KubePodPending", "severity": "page", "namespace": "trellis", "pod": "api $(id) 'x'"}
    async with listening() as webhook:
        with running_alertmanager(tmp_path / "alertmanager", webhook.url) as port:
            body = json.dumps([{"labels": labels, "annotations": {"summary": "A pod waits."}}]).encode()
            request = urllib.request.Request(f"http://127.0.0.1:{port}/api/v2/alerts", body, method="POST")
            request.add_header("Content-Type", "application/json")
            (await asyncio.to_thread(urllib.request.urlopen, request, timeout=5)).close()
            await webhook_has_one(webhook.alerts)
    file = tmp_path / "message.json"
    file.write_text(json.dumps({"version": "4", "alerts": webhook.alerts}))
    # Its own event loop: in a process of its own, as a person runs it.
    found = subprocess.run(
        [sys.executable, "-m", "app.cli", "oncall", str(file)],
        env={"TRELLIS_HOME": str(home), "TRELLIS_PROMETHEUS_URL": f"http://127.0.0.1:{prometheus}", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert "A pod waits." in found.stdout
    assert """kubectl -n "trellis" describe pod ""'api $(id) '"'"'x'"'"''"" |""" in found.stdout


async def webhook_has_one(alerts: list[object]) -> None:
    async with asyncio.timeout(30):
        while not alerts:
            await asyncio.sleep(0.05)


def test_what_answers_and_is_no_prometheus_is_said(home: Path) -> None:
    app = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=app.serve_forever, daemon=True).start()
    try:
        text = told("KillSwitchOn", home, f"http://127.0.0.1:{app.server_port}")
    finally:
        app.shutdown()
        app.server_close()
    assert f"What answers at http://127.0.0.1:{app.server_port} is no Prometheus" in text
    assert "kill.leads is ON" in text


def test_a_prometheus_that_is_away_is_one_sentence(home: Path) -> None:
    port = free_port()
    text = told("KillSwitchOn", home, f"http://user:hunter2@127.0.0.1:{port}")
    assert text.count("does not answer") == 1
    assert f"Prometheus at http://127.0.0.1:{port} does not answer" in text
    assert "hunter2" not in text
    assert "kill.leads is ON" in text


def test_a_database_that_is_away_is_one_sentence_without_its_password(prometheus: int, home: Path) -> None:
    done = CliRunner().invoke(
        cli,
        ["oncall", "KillSwitchOn"],
        env={
            "TRELLIS_HOME": str(home),
            "TRELLIS_DATABASE_URL": f"postgresql+asyncpg://app:hunter2@127.0.0.1:{free_port()}/trellis",
            "TRELLIS_PROMETHEUS_URL": f"http://127.0.0.1:{prometheus}",
        },
    )
    assert done.exit_code == 0, done.output
    assert done.output.count("the database does not answer") == 1
    assert "hunter2" not in done.output
    assert "  = 1  name=leads" in done.output
