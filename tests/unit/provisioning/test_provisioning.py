"""What the files of a phase say, as far as no program has to read them."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.src.catalogue import used
from infra.phases import PHASES, PhaseName
from infra.scrapes import metrics_host, scrapes
from provisioning.src import collector, grafana, prometheus, stores
from provisioning.src.generate import committed
from provisioning.src.sampling import SAMPLER_BYTES, TRACE_BYTES, plan, traces_a_second
from tests.support.promql import EXPOSITIONS, exposition
from tests.support.server import ROOT

SCHEMAS = ROOT / "tests" / "data" / "schemas"
SMALL, MEDIUM, MULTI_REGION, POC = (
    PHASES[name] for name in (PhaseName.SMALL, PhaseName.MEDIUM, PhaseName.MULTI_REGION, PhaseName.POC)
)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("phase", PHASES.values(), ids=lambda phase: phase.name)
def test_each_job_of_the_phase_is_asked_once(phase: Any) -> None:
    jobs = read(prometheus.FOLDER / phase.name / "prometheus.yaml")["scrape_configs"]
    assert [job["job_name"] for job in jobs] == [scrape.job for scrape in scrapes(phase)]


def test_the_prometheus_of_all_regions_takes_what_was_recorded_and_keeps_its_labels() -> None:
    found = read(prometheus.FOLDER / "multi-region" / "global.yaml")
    federation = found["scrape_configs"][0]
    assert federation["honor_labels"]
    assert '{__name__=~"trellis:.+"}' in federation["params"]["match[]"]
    assert "region" not in found["global"]["external_labels"]
    asked = {one["targets"][0]: one["labels"]["region"] for one in federation["static_configs"]}
    assert asked == {f"{metrics_host(region)}:9090": region for region in MULTI_REGION.fleet.regions}
    (rules,) = found["rule_files"]
    folder = (prometheus.FOLDER / "multi-region" / rules).parent.resolve()
    assert list(folder.glob("*.yaml")), "rules for it"


@pytest.mark.parametrize("name", ["loki", "tempo"])
@pytest.mark.parametrize("phase", PHASES)
def test_loki_and_tempo_are_told_only_what_they_document(name: str, phase: str) -> None:
    unknown = list(
        strangers(read(ROOT / "provisioning" / name / phase / f"{name}.yaml"), read(SCHEMAS / f"{name}.yaml"))
    )
    assert unknown == []


def test_a_member_that_is_not_documented_is_found() -> None:
    assert list(strangers({"server": {"htp_port": 1}, "a": [{"b": 1}]}, {"server": {"x": {}}, "a": {"c": {}}})) == [
        "server.htp_port",
        "a.b",
    ]


def strangers(document: Any, schema: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Members that the schema lacks; below one without members of its own, anything goes."""
    for item in document if isinstance(document, list) else [document]:
        for key, value in item.items() if isinstance(item, dict) else ():
            if key not in schema:
                yield f"{at}{key}"
            elif schema[key]:
                yield from strangers(value, schema[key], f"{at}{key}.")


def test_from_ten_pods_on_logs_and_traces_are_in_s3_and_kept_longer() -> None:
    small, medium = (read(stores.LOKI / phase / "loki.yaml") for phase in ("small", "medium"))
    assert "filesystem" in small["common"]["storage"]
    assert medium["common"]["storage"] == {"s3": {"bucketnames": "${LOKI_BUCKET}", "region": "${AWS_REGION}"}}
    assert medium["common"]["replication_factor"] == stores.COPIES
    tempo = read(stores.TEMPO / "medium" / "tempo.yaml")["storage"]["trace"]
    assert tempo["backend"] == "s3"
    assert "local" not in tempo
    assert stores.kept(POC).traces_h < stores.kept(SMALL).traces_h < stores.kept(MEDIUM).traces_h


def test_an_overlay_merges_replaces_and_takes_away() -> None:
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}
    assert stores.laid_over(base, {"a": {"b": None, "c": {"f": 3}}, "e": [2]}) == {
        "a": {"c": {"d": 2, "f": 3}},
        "e": [2],
    }


@pytest.mark.parametrize("path", [p for p in committed() if p.parent.name == "poc" or p.parents[1].name == "poc"])
def test_on_one_machine_nothing_listens_to_others(path: Path) -> None:
    assert not re.search(r"0\.0\.0\.0|\[::\]", path.read_text())


@pytest.mark.parametrize("phase", PHASES.values(), ids=lambda phase: phase.name)
def test_grafana_links_lead_to_sources_and_boards_that_are_there(phase: Any) -> None:
    folder = grafana.FOLDER / phase.name
    sources = read(folder / "datasources" / "trellis.yaml")["datasources"]
    uids = {source["uid"] for source in sources}
    led_to = set(re.findall(r'"datasourceUid": "([\w-]+)"', json.dumps(sources)))
    assert led_to == {"tempo", "loki"}
    assert led_to <= uids
    assert [source["name"] for source in sources if source["isDefault"]] == ["Prometheus"]
    assert {path.stem for path in (folder / "boards").glob("*.json")} == set(used(phase))
    for board in (folder / "boards").glob("*.json"):
        assert json.loads(board.read_text())["uid"] == board.stem


@pytest.mark.parametrize("phase", PHASES.values(), ids=lambda phase: phase.name)
def test_what_waits_for_a_decision_has_room_even_with_a_sampler_less(phase: Any) -> None:
    sizes = plan(phase)
    assert sizes.waiting_each * (sizes.samplers - 1) >= sizes.waiting
    assert sizes.waiting >= traces_a_second(phase) * sizes.wait_s
    assert sizes.waiting_each * TRACE_BYTES <= SAMPLER_BYTES
    assert 0 < sizes.percent <= 10


def test_a_larger_load_needs_more_samplers_and_a_smaller_share() -> None:
    small, medium, regions = plan(SMALL), plan(MEDIUM), plan(MULTI_REGION)
    assert small.samplers < medium.samplers < regions.samplers
    assert small.percent > medium.percent > regions.percent
    assert [sizes.slow_ms for sizes in (small, medium, regions)] == [3000, 2000, 1000]


def test_spans_are_masked_before_they_are_sent_on_or_sampled() -> None:
    gateway = collector.gateway()["service"]["pipelines"]
    alone = collector.alone(plan(POC))["service"]["pipelines"]
    for pipelines in (gateway, alone):
        for signal in ("traces", "logs", "metrics"):
            passed = pipelines[signal]["processors"]
            assert passed[0] == "memory_limiter"
            assert "redaction" in passed
    assert alone["traces"]["processors"][-1] == "tail_sampling"


def test_no_file_holds_a_secret() -> None:
    named = re.compile(r"(?i)^\s*(?:password|secret|token|api_key|access_key\w*|credentials|service_key|routing_key):")
    for path, text in committed().items():
        lines = [line for line in text.splitlines() if named.match(line) and "traceID" not in line]
        assert lines == [], path


@pytest.mark.parametrize("phase", [SMALL, MEDIUM, MULTI_REGION], ids=lambda phase: phase.name)
def test_what_an_exporter_tells_of_others_keeps_their_place(phase: Any) -> None:
    jobs = read(prometheus.FOLDER / phase.name / "prometheus.yaml")["scrape_configs"]
    clash = {job["job_name"]: _labels_given(job) & _labels_told(job["job_name"]) for job in jobs}
    assert clash["kube-state-metrics"] == {"namespace", "pod", "node"}
    assert [job["job_name"] for job in jobs if clash[job["job_name"]] and not job.get("honor_labels")] == []


def _labels_given(job: Mapping[str, Any]) -> set[str]:
    return {rule["target_label"] for rule in job["relabel_configs"] if "target_label" in rule}


def _labels_told(job: str) -> set[str]:
    found = [*EXPOSITIONS.glob(f"{job}.prom"), *EXPOSITIONS.glob(f"{job}.documented.prom")]
    return {label for path in found for metric in exposition(path.read_text()).values() for label in metric.labels}
