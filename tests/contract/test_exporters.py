"""The exporters that are installed here, asked anew: what rules and panels read from them is still exposed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from alerts.generate import RULES
from dashboards.generate import OUT
from tests.support.exporters import EXPORTERS, INSTALLED
from tests.support.expositions import trimmed
from tests.support.promql import EXPOSITIONS, SCRAPED, Metric, exposition, known, metrics_in, problems


def asked() -> Iterator[tuple[str, str]]:
    """Where an expression is, and the expression: of every rule and of every panel."""
    for path in sorted(RULES.glob("*/*.yaml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from ((f"{path.parent.name}/{path.stem}", rule["expr"]) for rule in group["rules"])
    for path in sorted(OUT.glob("*.json")):
        yield from ((path.stem, expr) for expr in _panels(orjson.loads(path.read_bytes())["panels"]))


def _panels(found: list[Any]) -> Iterator[str]:
    for panel in found:
        yield from _panels(panel.get("panels") or [])
        logs = (panel.get("datasource") or {}).get("type") == "loki"
        yield from (target["expr"] for target in panel.get("targets") or () if "expr" in target and not logs)


def _as_it_is_now(job: str, folder: Path) -> Mapping[str, Metric]:
    found = exposition(EXPORTERS[job].capture(folder, {}))
    return {name: Metric(metric.labels | SCRAPED, metric.kind) for name, metric in found.items()}


@pytest.mark.parametrize("job", INSTALLED)
def test_an_exporter_exposes_what_is_asked_of_it(job: str, tmp_path: Path) -> None:
    before = exposition((EXPOSITIONS / f"{job}.prom").read_text()).keys()
    mine = sorted({(where, expr) for where, expr in asked() if before & set(metrics_in(expr))})
    assert mine
    now = {name: metric for name, metric in known().items() if name not in before} | dict(_as_it_is_now(job, tmp_path))
    wrong = {f"{where}: {problem}" for where, expr in mine for problem in problems(expr, now)}
    assert sorted(wrong) == []


def test_what_is_kept_of_an_exposition_tells_no_machine() -> None:
    said = (
        "# HELP example_up It is there.\n# TYPE example_up gauge\n"
        'example_up{server="127.0.0.1:54321",slot_name="812",file="/tmp/there/a.yaml"} 7\n'
        "go_goroutines 9\n"
    )
    assert trimmed(said).splitlines() == [
        "# HELP example_up It is there.",
        "# TYPE example_up gauge",
        'example_up{server="127.0.0.1:1",slot_name="1",file="/example"} 1',
    ]
