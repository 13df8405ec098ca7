"""Alertmanager's own tool on the committed configuration: it is accepted, and every alert reaches who it must."""

import subprocess
from functools import cache
from pathlib import Path

import orjson
import pytest
import yaml

from alerts.generate import RULES
from alerts.routes import FOLDER, TEMPLATES
from tests.support.components import require

CONFIG = FOLDER / "alertmanager.yaml"
REACHED = {
    ("page", "api"): "pager-api",
    ("page", "data"): "pager-data",
    ("page", "models"): "pager-models",
    ("page", "platform"): "pager-platform",
    ("page", "business"): "pager-business",
    ("ticket", "api"): "chat-api",
    ("ticket", "data"): "chat-data",
    ("ticket", "models"): "chat-models",
    ("ticket", "platform"): "chat-platform",
    ("ticket", "business"): "chat-business",
}
SPECIAL = {"Watchdog": "heartbeat", "AlertmanagerNotificationsFailing": "chat-platform,pager-platform"}
SETS = sorted(folder.name for folder in RULES.iterdir() if folder.is_dir())


def amtool(*arguments: str | Path) -> str:
    done = subprocess.run([require("amtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@cache
def reached(**labels: str) -> str:
    said = [f"{name}={value}" for name, value in labels.items()]
    return amtool("config", "routes", "test", f"--config.file={CONFIG}", *said)


def test_alertmanager_accepts_the_file() -> None:
    assert "SUCCESS" in amtool("check-config", CONFIG)


@pytest.mark.parametrize("name", SETS)
def test_every_alert_of_a_phase_reaches_its_people(name: str) -> None:
    files = [yaml.safe_load(path.read_text()) for path in sorted((RULES / name).glob("*.yaml"))]
    rules = [rule for document in files for group in document["groups"] for rule in group["rules"] if "alert" in rule]
    assert rules
    wrong = []
    # What routes look at: the name and the two labels. The rest of an alert's labels changes nothing.
    for alert, severity, team in sorted({(r["alert"], r["labels"]["severity"], r["labels"]["team"]) for r in rules}):
        wanted = SPECIAL.get(alert) or REACHED[severity, team]
        found = reached(alertname=alert, severity=severity, team=team, phase="medium", region="a")
        if found != wanted:
            wrong.append((alert, severity, team, found, wanted))
    assert wrong == []


def test_an_alert_without_a_team_or_severity_is_still_read_by_somebody() -> None:
    assert reached(alertname="Unheard", severity="page") == "pager-platform"
    assert reached(alertname="Unheard", severity="ticket", team="gone") == "chat-platform"
    assert reached(alertname="Unheard") == "chat-platform"


def test_people_read_what_is_wrong_and_where_to_look(tmp_path: Path) -> None:
    data = tmp_path / "alerts.json"
    data.write_bytes(orjson.dumps(GROUP))
    assert rendered("title", data) == "PostgresDown in medium / eu: PostgreSQL behind a does not answer its exporter"
    assert rendered("runbook", data) == "https://runbooks/PostgresDown.md"
    assert rendered("dashboard", data) == "https://grafana/d/trellis-postgres"
    assert rendered("text", data).splitlines() == [
        "PostgreSQL behind a does not answer its exporter",
        "Requests fail.",
        "Runbook: https://runbooks/PostgresDown.md",
        "Dashboard: https://grafana/d/trellis-postgres",
    ]


def test_the_title_says_how_many_fire_and_that_it_is_over(tmp_path: Path) -> None:
    data = tmp_path / "alerts.json"
    data.write_bytes(orjson.dumps({**GROUP, "alerts": [ALERT, ALERT]}))
    assert rendered("title", data) == "PostgresDown in medium / eu (2 firing)"
    data.write_bytes(orjson.dumps({**GROUP, "status": "resolved", "alerts": [{**ALERT, "status": "resolved"}]}))
    assert rendered("title", data).startswith("Over: PostgresDown in medium / eu")


ALERT = {
    "status": "firing",
    "labels": {"alertname": "PostgresDown"},
    "annotations": {
        "summary": "PostgreSQL behind a does not answer its exporter",
        "description": "Requests fail.",
        "runbook_url": "https://runbooks/PostgresDown.md",
        "dashboard_url": "https://grafana/d/trellis-postgres",
    },
}
GROUP = {
    "status": "firing",
    "groupLabels": {"alertname": "PostgresDown"},
    "commonLabels": {"phase": "medium", "region": "eu"},
    "alerts": [ALERT],
}


def rendered(name: str, data: Path) -> str:
    text = f'{{{{ template "trellis.{name}" . }}}}'
    where = [f"--template.glob={TEMPLATES}", f"--template.data={data}", f"--template.text={text}"]
    return amtool("template", "render", *where)
