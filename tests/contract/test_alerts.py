"""The committed rules under Prometheus's own tool: every alert fires when it should, and says what it should."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import alert_cases
from tests.support.components import require

TOPICS = [(name, topic) for name, rules in alert_cases.rule_sets().items() for topic in rules.topics]
WITH_ALERTS = [(name, topic) for name, topic in TOPICS if alert_cases.rule_sets()[name].alerts(topic)]
ASKED = list(
    {alert_cases.question(alert_cases.rule_sets()[name], topic): (name, topic) for name, topic in WITH_ALERTS}.values()
)
"""One of each: phases whose rules and cases differ in nothing but the phase's own label give the same answers."""


@pytest.mark.parametrize(("name", "topic"), WITH_ALERTS)
def test_every_alert_has_a_case_of_each_kind(name: str, topic: str) -> None:
    rules = alert_cases.rule_sets()[name]
    assert list(alert_cases.lacking(rules, topic)) == []
    assert list(alert_cases.misplaced(rules, topic)) == []


@pytest.mark.parametrize(("name", "topic"), WITH_ALERTS)
def test_every_alert_says_its_phase(name: str, topic: str) -> None:
    rules = alert_cases.rule_sets()[name]
    assert {rule["labels"]["phase"] for rule in rules.alerts(topic)} == {rules.phase}


@pytest.mark.parametrize(("name", "topic"), ASKED)
def test_every_case_comes_out_as_it_says(name: str, topic: str, tmp_path: Path) -> None:
    done = alert_cases.run(require("promtool"), alert_cases.rule_sets()[name], topic, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_case_is_of_an_alert_that_there_is() -> None:
    alerts = [(rules, rule) for rules, topic in _with_alerts() for rule in rules.alerts(topic)]
    assert [case for case in alert_cases.cases() if not any(case.meant_for(*alert) for alert in alerts)] == []


def test_prometheus_accepts_every_file() -> None:
    files = [path for rules in alert_cases.rule_sets().values() for path in _files(rules)]
    done = subprocess.run([require("promtool"), "check", "rules", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _with_alerts() -> Iterator[tuple[alert_cases.Rules, str]]:
    for name, topic in WITH_ALERTS:
        yield alert_cases.rule_sets()[name], topic


def _files(rules: alert_cases.Rules) -> list[Path]:
    return [alert_cases.RULES / rules.name / f"{topic}.yaml" for topic in rules.topics]
