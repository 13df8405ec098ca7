"""Cases of alerts: series that go into the committed rules, and the alerts that must come out, asked by promtool.

A module of `tests/contract/alert_cases` holds the cases of one or more topics in `CASES`.
"""

import json
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Any

import yaml

from alerts.generate import RULES

_RECORDED = re.compile(r"\btrellis:[a-zA-Z0-9_:]+")


class Kind(StrEnum):
    """What every alert is asked: FIRES a little over its line, UNDER it stays silent, NO_TRAFFIC or no series at
    all, TOTAL failure of what it watches."""

    FIRES = "fires"
    UNDER = "stays silent just under the line"
    NO_TRAFFIC = "no traffic"
    TOTAL = "total failure"


@dataclass(frozen=True)
class Fired:
    """An alert as it is sent. `labels` are all of them but `alertname` and `phase`."""

    labels: Mapping[str, str]
    summary: str
    description: str
    runbook_url: str
    dashboard_url: str


@dataclass(frozen=True)
class Case:
    """One question to one alert.

    Args:
        series: by series, its samples in promtool's notation (`0+6x60`), the first at 0.
        at: when the alert is looked at (`1h5m`).
        fired: every alert of that name that fires then, whatever its labels.
        only: labels of the rule that is meant, where several have that name.
        sets: folders of `alerts/rules` that it is run for; empty: each that has the alert.
        step: time between two samples of a series; every: between two evaluations.
        reason: why this kind cannot be asked of this alert; such a case is not run.
    """

    alert: str
    kind: Kind
    series: Mapping[str, str] = field(default_factory=dict)
    at: str = ""
    fired: Sequence[Fired] = ()
    only: Mapping[str, str] = field(default_factory=dict)
    sets: Collection[str] = ()
    step: str = "1m"
    every: str = "1m"
    reason: str = ""

    def meant_for(self, rules: "Rules", rule: Mapping[str, Any]) -> bool:
        return (
            rule.get("alert") == self.alert
            and (not self.sets or rules.name in self.sets)
            and self.only.items() <= rule["labels"].items()
        )

    def document(self, rules: "Rules") -> Mapping[str, Any]:
        """The case as one test of promtool's file."""
        asked = {"eval_time": self.at, "alertname": self.alert, "exp_alerts": [_alert(f, rules) for f in self.fired]}
        return {
            "name": f"{self.alert} {dict(self.only)}: {self.kind}",
            "interval": self.step,
            "input_series": [{"series": series, "values": values} for series, values in self.series.items()],
            "alert_rule_test": [asked],
        }


def four(
    alert: str,
    said: Fired,
    *,
    fires: Mapping[str, str],
    under: Mapping[str, str],
    total: Mapping[str, str],
    total_summary: str = "",
    total_description: str = "",
    idle: Mapping[str, str] = MappingProxyType({}),
    **asked: Any,
) -> tuple[Case, ...]:
    """The four cases of an alert that is silent without traffic (`idle`; nothing at all unless given).

    `said` is what it says in the first case, with `total_summary` and `total_description` under total failure (empty:
    the same);
    `asked` are fields of each case.
    """
    all_of_it = replace(said, summary=total_summary or said.summary, description=total_description or said.description)
    return (
        Case(alert, Kind.FIRES, series=fires, fired=[said], **asked),
        Case(alert, Kind.UNDER, series=under, **asked),
        Case(alert, Kind.NO_TRAFFIC, series=idle, **asked),
        Case(alert, Kind.TOTAL, series=total, fired=[all_of_it], **asked),
    )


def _alert(fired: Fired, rules: "Rules") -> Mapping[str, Any]:
    return {
        "exp_labels": {**fired.labels, "phase": rules.phase},
        "exp_annotations": {
            "summary": fired.summary,
            "description": fired.description,
            "runbook_url": fired.runbook_url,
            "dashboard_url": fired.dashboard_url,
        },
    }


@dataclass(frozen=True)
class Rules:
    """The rules of one folder of `alerts/rules`, by topic."""

    name: str
    topics: Mapping[str, Sequence[Mapping[str, Any]]]

    @property
    def phase(self) -> str:
        return self.name.removesuffix("-global")

    def alerts(self, topic: str) -> list[Mapping[str, Any]]:
        return [rule for rule in self.topics[topic] if "alert" in rule]

    def needed(self, topic: str, alert: str) -> list[str]:
        """The topics that record what an alert reads, in the order in which they are made; its own comes last."""
        at = {
            rule["record"]: (name, rule["expr"])
            for name in self.topics
            for rule in self.topics[name]
            if "record" in rule
        }
        wanted = [rule["expr"] for rule in self.alerts(topic) if rule["alert"] == alert]
        seen: dict[str, str] = {}
        while wanted:
            for series in _RECORDED.findall(wanted.pop()):
                if series in at and series not in seen:
                    seen[series], expr = at[series]
                    wanted.append(expr)
        return [*sorted(set(seen.values()) - {topic}), topic]


@cache
def rule_sets() -> Mapping[str, Rules]:
    """By folder: the committed rules."""
    return {folder.name: Rules(folder.name, _topics(folder)) for folder in sorted(RULES.iterdir()) if folder.is_dir()}


def _topics(folder: Path) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    return {path.stem: _rules(yaml.safe_load(path.read_text())) for path in sorted(folder.glob("*.yaml"))}


def _rules(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [rule for group in document["groups"] for rule in group["rules"]]


@cache
def cases() -> tuple[Case, ...]:
    """Every case of every module of `tests/contract/alert_cases`."""
    package = import_module("tests.contract.alert_cases")
    modules = [import_module(f"{package.__name__}.{found.name}") for found in iter_modules(package.__path__)]
    return tuple(case for module in modules for case in getattr(module, "CASES", ()))


def lacking(rules: Rules, topic: str) -> Iterator[str]:
    """A sentence for each alert of a topic and each kind of question that no case asks of it."""
    for rule in rules.alerts(topic):
        for kind in Kind:
            if not any(case.kind is kind and case.meant_for(rules, rule) for case in cases()):
                yield f"{rules.name}/{topic}: {rule['alert']} {rule['labels']} has no case '{kind}'"


def misplaced(rules: Rules, topic: str) -> Iterator[str]:
    """A sentence for each case whose expectation does not fit its kind."""
    for rule in rules.alerts(topic):
        for case in (case for case in cases() if not case.reason and case.meant_for(rules, rule)):
            fires = any(case.only.items() <= fired.labels.items() for fired in case.fired)
            if (case.kind is Kind.FIRES and not fires) or (case.kind is Kind.UNDER and fires):
                yield f"{rules.name}/{topic}: {case.alert} {dict(case.only)}: '{case.kind}' expects the opposite"


def question(rules: Rules, topic: str) -> str:
    """What promtool is asked of a topic, without the phase's name: two that are equal have the same answer."""
    needed = {name for rule in rules.alerts(topic) for name in rules.needed(topic, rule["alert"])}
    ours = [case for case in cases() if any(case.meant_for(rules, rule) for rule in rules.alerts(topic))]
    asked = [case.document(rules) for case in ours]
    text = json.dumps([topic, {name: list(rules.topics[name]) for name in sorted(needed)}, asked], sort_keys=True)
    return text.replace(f'"phase": "{rules.phase}"', "")


def run(promtool: Path, rules: Rules, topic: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs every case of a topic's alerts through promtool; its files are written into `folder`."""
    batches: dict[tuple[str, ...], list[Case]] = {}
    for case in cases():
        if not case.reason and any(case.meant_for(rules, rule) for rule in rules.alerts(topic)):
            batches.setdefault((case.every, *rules.needed(topic, case.alert)), []).append(case)
    paths = [_write(rules, *batch, folder / f"{'-'.join(batch[0])}.yaml") for batch in batches.items()]
    return subprocess.run([promtool, "test", "rules", *paths], capture_output=True, text=True, check=False, timeout=300)


def _write(rules: Rules, batch: Sequence[str], asked: Sequence[Case], path: Path) -> Path:
    every, *topics = batch
    files = [RULES / rules.name / f"{topic}.yaml" for topic in topics]
    groups = [group["name"] for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    document = {
        "rule_files": [str(file) for file in files],
        "evaluation_interval": every,
        # Else promtool takes them in any order, and what reads a recorded series may come before it is made.
        "group_eval_order": groups,
        "tests": [case.document(rules) for case in asked],
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
