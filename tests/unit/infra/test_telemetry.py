"""What watches in a cluster: every job has its pods, files are mounted whole, sizes follow the phase."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest

from infra.errors import InfraError
from infra.kubernetes.addons import CERT_MANAGER_NAMESPACE, KEDA_NAMESPACE
from infra.kubernetes.alertmanager import TOLD_BY
from infra.kubernetes.backends import of_cluster
from infra.kubernetes.collector import sampler_pod
from infra.kubernetes.exporters import NODES, cache_node
from infra.kubernetes.flows import INTERNET, Flow, Namespaces, Networks, Pods
from infra.kubernetes.mounted import MOST_BYTES, Mounted, digest, read
from infra.kubernetes.telemetry import flows
from infra.kubernetes.watching import Watching
from infra.offline import graphs
from infra.outputs import CellOutputs
from infra.phases import PHASES, Phase, PhaseName
from infra.recording import Graph
from infra.report import manifests
from infra.scrapes import scrapes
from infra.secrets import MANAGED, TELEMETRY
from infra.settings import Cluster
from provisioning.src.sampling import TRACE_BYTES, plan

_OPERATORS = {"karpenter", "keda", "cert-manager"}
"""Pods of charts, which a plan does not see."""
_KUBELET = {"kubelet", "cadvisor"}
_NAME = "app.kubernetes.io/name"
_CELL = {field.name: f"{field.name}.offline.example" for field in fields(CellOutputs)} | {
    "vpc_cidr": "10.40.0.0/16",
    "balancer_cidrs": "10.40.0.0/20",
    "cache_endpoint": "clustercfg.trellis.abc.use1.cache.example",
    "private_subnets": "subnet-1,subnet-2",
}


@pytest.fixture(scope="module")
def regional() -> Graph:
    """The largest phase, in a region."""
    stack = "multi-region-us-east-1"
    return graphs([f"{stack}-apps"], outputs={f"{stack}-infra": _CELL})[f"{stack}-apps"]


def _workloads(graph: Graph) -> Sequence[Mapping[str, Any]]:
    return [one for one in manifests(graph) if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet")]


def _labels(workload: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def test_prometheus_finds_pods_of_every_job(regional: Graph) -> None:
    there = {
        (_labels(one)[_NAME], port["containerPort"])
        for one in _workloads(regional)
        for container in one["spec"]["template"]["spec"]["containers"]
        for port in container.get("ports", [])
    }
    wanted = {(one.job, one.port) for one in scrapes(PHASES[PhaseName.MULTI_REGION])}
    assert {(job, port) for job, port in wanted - there if job not in _OPERATORS | _KUBELET} == set()


def test_a_service_leads_to_pods_that_have_its_port(regional: Graph) -> None:
    ours = [one for one in manifests(regional) if one["kind"] == "Service"]
    ours = [one for one in ours if one["metadata"]["namespace"] in ("trellis-telemetry", "trellis-models")]
    assert len(ours) > 10
    for service in ours:
        chosen = service["spec"]["selector"].items()
        (led,) = [one for one in _workloads(regional) if chosen <= _labels(one).items()]
        (container,) = led["spec"]["template"]["spec"]["containers"]
        ports = {port["containerPort"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, service["metadata"]["name"]


def test_pods_mount_the_very_files_of_this_repository(regional: Graph) -> None:
    maps = {one["metadata"]["name"]: one["data"] for one in manifests(regional) if one["kind"] == "ConfigMap"}
    found = {name.rpartition("-")[0]: data for name, data in maps.items()}
    assert found["rules"] == read("alerts/rules/multi-region/*.yaml")
    assert found["grafana-boards"].keys() == read("provisioning/grafana/multi-region/boards/*.json").keys()
    assert found["alertmanager"] == read("alerts/alertmanager/*")
    assert found["collector-sampler"] == read("provisioning/collector/multi-region/sampler.yaml")


def test_the_rules_are_where_prometheus_looks_for_them(regional: Graph) -> None:
    (one,) = [one for one in _workloads(regional) if one["metadata"]["name"] == "prometheus"]
    (container,) = one["spec"]["template"]["spec"]["containers"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    (config,) = [arg.partition("=")[2] for arg in container["args"] if arg.startswith("--config.file=")]
    folder = config.rpartition("/")[0]
    assert folder in mounts
    assert folder.removesuffix("/provisioning/prometheus/multi-region") + "/alerts/rules/multi-region" in mounts


def test_a_secret_is_read_under_a_name_that_is_brought(regional: Graph) -> None:
    brought = {
        (one["metadata"]["namespace"], one["spec"]["target"]["name"]): set(one["spec"]["target"]["template"]["data"])
        for one in manifests(regional)
        if one["kind"] == "ExternalSecret"
    }
    checked = 0
    for one in _workloads(regional):
        namespace, spec = one["metadata"]["namespace"], one["spec"]["template"]["spec"]
        for volume in spec.get("volumes", []):
            if "secret" in volume:
                keys = {item["key"] for item in volume["secret"].get("items", [])}
                assert keys <= brought[namespace, volume["secret"]["secretName"]]
                checked += 1
        for entry in (entry for container in spec["containers"] for entry in container.get("env", [])):
            source = entry.get("valueFrom", {}).get("secretKeyRef")
            if source:
                assert source["key"] in brought[namespace, source["name"]], entry
                checked += 1
    assert checked > 10


def test_the_same_files_have_one_hash_and_others_another() -> None:
    files = {"a.yaml": "one", "b.yaml": "two"}
    assert digest(files) == digest(dict(reversed(files.items())))
    assert len({digest(files), digest({**files, "b.yaml": "three"}), digest({"a.yaml": "onetwo", "b.yaml": ""})}) == 3


def test_files_that_are_too_large_are_refused_before_anything_is_made() -> None:
    with pytest.raises(InfraError, match="Divide them"):
        Mounted("large", "trellis", "config", {"a": "x" * MOST_BYTES}, None)  # type: ignore[arg-type]


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(InfraError, match=r"alerts/rules/nowhere/\*\.yaml"):
        read("alerts/rules/nowhere/*.yaml")


@pytest.mark.parametrize("phase", [phase for phase in PHASES.values() if phase.nodes], ids=lambda phase: phase.name)
def test_a_sampler_holds_what_waits_before_its_limiter_refuses(phase: Phase) -> None:
    waiting = plan(phase).waiting_each * TRACE_BYTES
    # Its limiter refuses at 60 % of its memory: the limit of 80 % less the 20 % for bursts.
    assert waiting < 0.6 * sampler_pod(phase).memory * (1 << 20) < 3 * (waiting + (256 << 20))


def test_a_node_of_the_cache_is_known_by_the_address_of_its_group() -> None:
    group = "clustercfg.trellis-medium.abc123.euc1.cache.amazonaws.com"
    assert cache_node("0002-001", group) == "trellis-medium-0002-001.trellis-medium.abc123.euc1.cache.amazonaws.com"


@pytest.mark.parametrize("phase", [phase for phase in PHASES.values() if phase.nodes], ids=lambda phase: phase.name)
def test_prometheus_may_ask_every_job_that_is_not_the_apps(phase: Phase) -> None:
    open_to = [
        flow for flow in flows(_watching(phase), mesh=False) if flow.source == Pods("trellis-telemetry", "prometheus")
    ]
    apps = {"trellis-api", "trellis-worker", "pgbouncer", "qdrant"}
    for scrape in scrapes(phase):
        if scrape.job not in apps:
            assert any(scrape.port in flow.ports and _is(flow, scrape.job) for flow in open_to), scrape.job


def _is(flow: Flow, job: str) -> bool:
    homes = {"karpenter": "kube-system", "keda": KEDA_NAMESPACE, "cert-manager": CERT_MANAGER_NAMESPACE, "dcgm": NODES}
    match flow.target:
        case Pods(_, name):
            return name == job
        case Namespaces(names):
            return homes.get(job) in names
        case Networks():
            return job in {*_KUBELET, "node"}


def _watching(phase: Phase) -> Watching:
    backends = of_cluster(
        Cluster(phase=phase.name, image=f"registry.example.com/a/b@sha256:{'0' * 64}", model_url="u", model_name="m")
    )
    return Watching(phase=phase, region="", backends=replace(backends, models=phase.models), buckets={}, secret="one")


def test_logs_and_traces_go_out_only_where_they_are_kept_in_s3() -> None:
    alone = _watching(PHASES[PhaseName.MEDIUM])
    for watching, out in ((alone, False), (replace(alone, buckets={"LOKI": "a", "TEMPO": "b"}), True)):
        sources = {flow.source for flow in flows(watching, mesh=False) if flow.target == INTERNET}
        assert ({Pods("trellis-telemetry", "loki"), Pods("trellis-telemetry", "tempo")} <= sources) is out


def test_who_is_told_has_a_key_in_the_secret_of_telemetry() -> None:
    assert set(TOLD_BY) < set(MANAGED[TELEMETRY])
    mounted = {line.rpartition("/")[2].strip() for line in _configured() if "/etc/alertmanager/secrets/" in line}
    assert mounted == set(TOLD_BY)


def _configured() -> Sequence[str]:
    return read("alerts/alertmanager/alertmanager.yaml")["alertmanager.yaml"].splitlines()


def test_every_namespace_is_closed_but_for_what_is_said(regional: Graph) -> None:
    policies = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): one["spec"]
        for one in manifests(regional)
        if one["kind"] == "NetworkPolicy"
    }
    made = {one["metadata"]["name"] for one in manifests(regional) if one["kind"] == "Namespace"}
    assert {NODES, KEDA_NAMESPACE, CERT_MANAGER_NAMESPACE, "external-secrets", "trellis-telemetry"} <= made
    for namespace in made:
        assert policies[namespace, "closed"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    metrics = {port["port"] for port in policies[KEDA_NAMESPACE, "operator"]["ingress"][0]["ports"]}
    assert {one.port for one in scrapes(PHASES[PhaseName.MULTI_REGION]) if one.job == "keda"} <= metrics
