"""The committed files of Prometheus and Alertmanager, read by promtool and amtool.

Debian's promtool is built without Kubernetes. There `kubernetes_sd_configs` is put as a file of pods with the labels
that Kubernetes would give: relabelling then does what it would do in a cluster.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.phases import PHASES, PhaseName
from infra.scrapes import Scrape, scrapes
from provisioning.src import alertmanager, prometheus
from tests.support.components import require

FILES = sorted(prometheus.FOLDER.glob("*/*.yaml"))
# One of ours, one that its makers label, one with two tiers: the others come from the same function.
PODS = [
    scrape for scrape in scrapes(PHASES[PhaseName.MEDIUM]) if scrape.job in ("trellis-api", "keda", "otel-collector")
]
WAIT = "--timeout=3s"
"""Promtool waits this long, whatever it has found by then."""
LABELLED = {"keda": "keda-operator"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_promtool_takes_each_file_with_its_rules(path: Path, tmp_path: Path) -> None:
    promtool = require("promtool")
    found = subprocess.run(
        [promtool, "check", "config", placed(path, tmp_path, [])], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0, found.stderr
    assert "rule files found" in found.stdout


@pytest.mark.parametrize("scrape", PODS, ids=lambda scrape: scrape.job)
def test_of_the_pods_of_a_cluster_each_job_asks_its_own(scrape: Scrape, tmp_path: Path) -> None:
    name = LABELLED.get(scrape.job, scrape.job)
    right = pod(name, scrape.port)
    others = [pod(f"{name}-x", scrape.port), pod(name, 1), pod(name, scrape.port, "Succeeded")]
    kept, *left_out = targets(scrape.job, [right, *others], tmp_path)
    assert kept == {
        "job": scrape.job,
        "namespace": "trellis",
        "pod": f"{name}-0",
        "node": "node-1",
        "instance": f"10.0.0.1:{scrape.port}",
        "__address__": f"10.0.0.1:{scrape.port}",
        "__metrics_path__": scrape.path,
        "__scheme__": "http",
    } | {label: value for label, value in kept.items() if label in ("__scrape_interval__", "__scrape_timeout__")}
    assert not any(left_out)


def test_of_each_node_its_kubelet_is_asked(tmp_path: Path) -> None:
    node = {"__meta_kubernetes_node_name": "node-1"}
    (found,) = targets("cadvisor", [{"targets": ["10.0.0.1:10250"], "labels": node}], tmp_path)
    assert (found["node"], found["__metrics_path__"], found["__scheme__"]) == ("node-1", "/metrics/cadvisor", "https")


def test_amtool_takes_the_file_of_one_machine() -> None:
    require("alertmanager")
    amtool = shutil.which("amtool")
    assert amtool is not None
    for path in alertmanager.FOLDER.glob("*/*.yaml"):
        found = subprocess.run([amtool, "check-config", path], capture_output=True, text=True, timeout=60)
        assert found.returncode == 0, found.stderr


def pod(name: str, port: int, phase: str = "Running") -> Mapping[str, Any]:
    return {
        "targets": [f"10.0.0.1:{port}"],
        "labels": {
            "__meta_kubernetes_pod_label_app_kubernetes_io_name": name,
            "__meta_kubernetes_pod_container_port_number": str(port),
            "__meta_kubernetes_pod_phase": phase,
            "__meta_kubernetes_namespace": "trellis",
            "__meta_kubernetes_pod_name": f"{name}-0",
            "__meta_kubernetes_pod_node_name": "node-1",
        },
    }


def targets(job: str, found: Sequence[Mapping[str, Any]], tmp_path: Path) -> list[Mapping[str, str]]:
    """What relabelling makes of each target: its labels, none where it is left out."""
    path = placed(prometheus.FOLDER / "medium" / "prometheus.yaml", tmp_path, found)
    command = [require("promtool"), "check", "service-discovery", WAIT, path, job]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    by_port_and_labels = json.loads(printed)
    order = [(one["targets"][0], one["labels"]) for one in found]
    discovered = [(one["discoveredLabels"], one.get("labels") or {}) for one in by_port_and_labels]
    return [next(kept for seen, kept in discovered if labels.items() <= seen.items()) for _, labels in order]


def placed(path: Path, folder: Path, found: Sequence[Mapping[str, Any]]) -> Path:
    """A copy with Kubernetes's discovery put as a file, rules by their full path, and secrets that are there."""
    discovered = folder / "found.json"
    discovered.write_text(json.dumps(list(found)))
    document = yaml.safe_load(path.read_text())
    document["rule_files"] = [str((path.parent / pattern).resolve()) for pattern in document["rule_files"]]
    for one in (*document["scrape_configs"], *document["alerting"]["alertmanagers"]):
        if one.pop("kubernetes_sd_configs", None):
            one["file_sd_configs"] = [{"files": [str(discovered)]}]
        for secret in secrets(one):
            (folder / Path(secret).name).write_text("")
    text = yaml.safe_dump(document)
    for place in (prometheus.SECRETS, "/var/run/secrets/kubernetes.io/serviceaccount"):
        text = text.replace(place, str(folder))
    copy = folder / "prometheus.yaml"
    copy.write_text(text)
    return copy


def secrets(job: Mapping[str, Any]) -> list[str]:
    """The files that a job names."""
    named = {**job.get("authorization", {}), **job.get("tls_config", {})}
    return [value for key, value in named.items() if key.endswith("_file")]
