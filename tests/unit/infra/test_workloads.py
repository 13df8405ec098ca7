"""What runs in a cluster: a release in two colours, room for a phase's most, closed namespaces."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.files import STACKS
from infra.kubernetes.flows import MESH_PORT
from infra.offline import graphs
from infra.recording import Graph
from infra.report import manifests, short

_OLD, _NEW = (f"registry.example.com/trellis/app@sha256:{letter * 64}" for letter in "ab")
_TRIED = {"active": "blue", "image": _OLD, "otherImage": _NEW}
_SWITCHED = {"active": "green", "image": _NEW, "otherImage": _OLD}


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return _graph(tmp_path_factory.mktemp("tried"), {"phase": "medium", "mtls": "true", **_TRIED})


@pytest.fixture(scope="module")
def switched(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return _graph(tmp_path_factory.mktemp("switched"), {"phase": "medium", "mtls": "true", **_SWITCHED})


def _graph(folder: Path, said: Mapping[str, str]) -> Graph:
    settings = yaml.safe_load((STACKS / "Pulumi.cluster-apps.yaml").read_text())
    settings["config"] |= {f"trellis:{key}": value for key, value in said.items()}
    (folder / "Pulumi.cluster-apps.yaml").write_text(yaml.safe_dump(settings))
    return graphs(["cluster-apps"], folder)["cluster-apps"]


def _of(graph: Graph, kind: str) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    return {
        (one["metadata"].get("namespace", ""), one["metadata"]["name"]): one
        for one in manifests(graph)
        if one["kind"] == kind
    }


def _ours(graph: Graph) -> Sequence[str]:
    """Namespaces of what runs: not those of the mesh and of what watches the machines themselves, which they need."""
    security = "pod-security.kubernetes.io/enforce"
    found = _of(graph, "Namespace").items()
    return [name for (_, name), one in found if one["metadata"]["labels"].get(security) != "privileged"]


def test_a_switch_changes_whom_the_service_leads_to_and_which_program_works(tried: Graph, switched: Graph) -> None:
    before = {short(resource.urn): resource.inputs for resource in tried.resources}
    after = {short(resource.urn): resource.inputs for resource in switched.resources}
    assert before.keys() == after.keys()
    changed = {urn.rpartition("::")[2] for urn in before if before[urn] != after[urn]}
    assert changed == {"trellis-api", "worker"}
    assert _of(tried, "Service")["trellis", "api"]["spec"]["selector"]["colour"] == "blue"
    assert _of(switched, "Service")["trellis", "api"]["spec"]["selector"]["colour"] == "green"


def test_each_colour_runs_its_own_image_after_a_migration_of_it(tried: Graph) -> None:
    images = {
        name: one["spec"]["template"]["spec"]["containers"][0]["image"]
        for (_, name), one in _of(tried, "Deployment").items()
        if name.startswith("api-")
    }
    assert images == {"api-blue": _OLD, "api-green": _NEW}
    jobs = {one["spec"]["template"]["spec"]["containers"][0]["image"] for one in _of(tried, "Job").values()}
    assert jobs == {_OLD, _NEW}
    migrations = {resource.urn for resource in tried.of("kubernetes:batch/v1:Job")}
    waits = {one.name: set(one.depends_on) for one in tried.of("kubernetes:apps/v1:Deployment")}
    assert all(migrations <= waits[name] for name in ("api-blue", "api-green", "worker"))


def test_what_is_scaled_says_no_number_itself(tried: Graph) -> None:
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in _of(tried, "HorizontalPodAutoscaler").values()}
    assert scaled == {"api-blue", "api-green", "worker"}
    for (_, name), one in _of(tried, "Deployment").items():
        assert ("replicas" not in one["spec"]) is (name in scaled)


def test_a_namespace_has_room_for_all_that_ever_runs_in_it(tried: Graph) -> None:
    asked = dict[str, int]()
    for namespace, memory in _memory(tried):
        asked[namespace] = asked.get(namespace, 0) + memory
    quotas = {namespace: one["spec"]["hard"] for (namespace, _), one in _of(tried, "ResourceQuota").items()}
    assert {"trellis", "trellis-data"} <= asked.keys()
    for namespace, memory in asked.items():
        assert memory <= int(quotas[namespace]["limits.memory"].removesuffix("Mi"))


def _memory(graph: Graph) -> Iterator[tuple[str, int]]:
    """MiB of each workload at its most, with what a rollout adds."""
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]: one["spec"]["maxReplicas"]
        for one in _of(graph, "HorizontalPodAutoscaler").values()
    }
    for kind in ("Deployment", "StatefulSet", "Job"):
        for (namespace, name), one in _of(graph, kind).items():
            number = scaled.get(name, one["spec"].get("replicas", 1))
            surge = -(-number // 4) if name in scaled else 0
            containers = one["spec"]["template"]["spec"]["containers"]
            pod = sum(_mebibytes(container["resources"]["limits"]["memory"]) for container in containers)
            yield namespace, pod * (number + surge)


def _mebibytes(text: str) -> int:
    return int(text.removesuffix("Gi")) * 1024 if text.endswith("Gi") else int(text.removesuffix("Mi"))


def test_every_namespace_is_closed_and_restricted(tried: Graph) -> None:
    policies = _of(tried, "NetworkPolicy")
    assert {"trellis", "trellis-data", "trellis-telemetry"} <= set(_ours(tried))
    for name in _ours(tried):
        closed = policies[name, "closed"]["spec"]
        assert closed["podSelector"] == {}
        assert closed["policyTypes"] == ["Ingress", "Egress"]
        assert not closed.get("ingress")
        assert not closed.get("egress")
        labels = _of(tried, "Namespace")["", name]["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        assert labels["istio.io/dataplane-mode"] == "ambient"


def test_who_may_send_may_be_sent_to(tried: Graph) -> None:
    """Of pods of ours, each flow is open at both of its ends."""
    component = "app.kubernetes.io/component"
    every = _of(tried, "NetworkPolicy")
    policies = {at: one for at, one in every.items() if one["metadata"]["labels"][component] == "flows"}
    checked = 0
    for (namespace, name), policy in policies.items():
        for rule in policy["spec"].get("egress") or []:
            for peer in rule["to"]:
                if "podSelector" not in peer:
                    continue
                (there,) = peer["namespaceSelector"]["matchExpressions"][0]["values"]
                other = peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
                assert _lets_in(policies[there, other], namespace, name, rule["ports"]), f"{name} to {other}"
                checked += 1
    assert checked


def _lets_in(policy: Mapping[str, Any], namespace: str, name: str, ports: Sequence[Any]) -> bool:
    return any(
        rule["ports"] == ports
        and any(
            peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name") == name
            and namespace in peer["namespaceSelector"]["matchExpressions"][0]["values"]
            for peer in rule["from"]
        )
        for rule in policy["spec"].get("ingress") or []
    )


def test_a_policy_is_about_pods_that_are_there(tried: Graph) -> None:
    there = {
        (namespace, one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"])
        for kind in ("Deployment", "StatefulSet", "DaemonSet", "Job")
        for (namespace, _), one in _of(tried, kind).items()
    }
    for (namespace, name), policy in _of(tried, "NetworkPolicy").items():
        if policy["spec"]["podSelector"] and namespace in ("trellis", "trellis-data"):
            assert (namespace, name) in there


def test_the_mesh_takes_plain_traffic_at_the_way_in_alone(tried: Graph) -> None:
    rules = _of(tried, "PeerAuthentication")
    assert {namespace for namespace, name in rules if name == "strict"} == set(_ours(tried))
    assert all(rule["spec"]["mtls"] == {"mode": "STRICT"} for rule in rules.values())
    plain = {key: rule["spec"]["portLevelMtls"] for key, rule in rules.items() if "portLevelMtls" in rule["spec"]}
    assert plain == {("trellis", "way-in"): {"8321": {"mode": "PERMISSIVE"}}}
    for name in _ours(tried):
        (probes,) = _of(tried, "NetworkPolicy")[name, "probes"]["spec"]["ingress"]
        assert probes == {"from": [{"ipBlock": {"cidr": "169.254.7.127/32"}}]}
    to_pooler = _of(tried, "NetworkPolicy")["trellis", "pgbouncer"]["spec"]["ingress"][0]["ports"]
    assert MESH_PORT in [port["port"] for port in to_pooler]
