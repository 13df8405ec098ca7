"""Every expression of every rule asks for what exists."""

from collections.abc import Mapping

import pytest

from tests.support import alert_cases, promql

FILES = [(name, topic) for name, rules in alert_cases.rule_sets().items() for topic in rules.topics]


@pytest.fixture(scope="module")
def known() -> Mapping[str, promql.Metric]:
    return promql.known()


@pytest.mark.parametrize(("name", "topic"), FILES)
def test_every_metric_and_label_of_a_rule_exists(known: Mapping[str, promql.Metric], name: str, topic: str) -> None:
    there = promql.federated(known) if name.endswith("-global") else known
    rules = alert_cases.rule_sets()[name].topics[topic]
    asked = {rule.get("alert") or rule["record"]: promql.problems(rule["expr"], there) for rule in rules}
    assert {rule: problems for rule, problems in asked.items() if problems} == {}
