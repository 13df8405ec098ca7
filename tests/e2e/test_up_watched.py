"""`trellis up` with Prometheus and Alertmanager beside it."""

import json
import os
import re
import signal
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.components import require
from tests.support.processes import wait_until
from tests.support.server import free_port, trellis


class Up:
    """A detached service with its monitoring, and what `up` printed."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()

    def start(self, **settings: str) -> str:
        self.printed = trellis(
            self.home, self.port, "up", "--detach", **{"TRELLIS_MONITORING": "true", **settings}
        ).stdout
        return self.printed

    def down(self) -> None:
        trellis(self.home, self.port, "down", TRELLIS_MONITORING="true")

    def address(self, name: str) -> str:
        found = re.search(rf"{name}\W+(http://\S+)", self.printed)
        assert found is not None, self.printed
        return found.group(1)

    def ask(self, name: str, path: str) -> Any:
        with urllib.request.urlopen(self.address(name) + path, timeout=10) as response:
            return json.load(response)

    def programs(self) -> list[int]:
        """The keeper, Prometheus and Alertmanager, by what their command lines name."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"{self.home}/monitoring".encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
        return found


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    require("prometheus")
    require("alertmanager")
    found = Up(tmp_path / "home")
    yield found
    found.down()
    for pid in found.programs():
        os.kill(pid, signal.SIGKILL)


def test_rules_targets_and_the_way_of_an_alert_are_there_and_end_with_the_server(up: Up) -> None:
    with socket.socket() as taken:
        with suppress(OSError):
            # Where another one has it already, it is just as taken.
            taken.bind(("127.0.0.1", 9090))
            taken.listen()
        up.start()
        assert not up.address("Prometheus").endswith(":9090")
    groups = up.ask("Prometheus", "/api/v1/rules")["data"]["groups"]
    assert {"presence"} <= {group["name"] for group in groups}
    wait_until(lambda: health(up) == {"trellis-api": "up", "prometheus": "up", "alertmanager": "up"}, "targets are up")
    wait_until(lambda: "Watchdog" in told(up), "the Watchdog reaches Alertmanager", timeout_s=90)
    alerts = up.ask("Alertmanager", "/api/v2/alerts")
    assert {alert["labels"]["phase"] for alert in alerts} == {"poc"}
    assert len(up.programs()) == 3
    up.down()
    assert up.programs() == []


def health(up: Up) -> dict[str, str]:
    targets = up.ask("Prometheus", "/api/v1/targets")["data"]["activeTargets"]
    return {target["labels"]["job"]: target["health"] for target in targets}


def told(up: Up) -> set[str]:
    return {alert["labels"]["alertname"] for alert in up.ask("Alertmanager", "/api/v2/alerts")}


def test_a_killed_server_leaves_nothing_behind(up: Up) -> None:
    up.start()
    assert len(up.programs()) == 3
    os.kill(int((up.home / "trellis.pid").read_text()), signal.SIGKILL)
    wait_until(lambda: up.programs() == [], "all have ended with the server")
