"""Each rule about Kubernetes: what keeps it, and what breaks it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.policy import rules_cluster, rules_pods
from infra.policy.finding import Rule
from infra.policy.quantities import amount, may_go
from tests.support.examples import examples
from tests.support.policy import CONTAINER, POD, Case, budget, deployment, manifest, said

SECURE = CONTAINER["securityContext"]
HPA = "autoscaling/v2:HorizontalPodAutoscaler"
KEDA = "keda.sh/v1alpha1:ScaledObject"
POLICY = "networking.k8s.io/v1:NetworkPolicy"
ROLE = "rbac.authorization.k8s.io/v1:ClusterRole"
QUOTA = "core/v1:ResourceQuota"
BOTH = ["Ingress", "Egress"]
ZONE = "topology.kubernetes.io/zone"
TARGET = {"kind": "Deployment", "name": "one"}
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def in_container(**changed):
    return deployment(container=changed)


def secured(**changed):
    return in_container(securityContext={**SECURE, **changed})


def for_pod(**changed):
    return deployment(securityContext={**POD["securityContext"], **changed})


def role(**rule):
    return manifest(ROLE, rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], **rule}])


def binding(name):
    return manifest(f"{ROLE}Binding", roleRef={"name": name})


def closed(**spec):
    return manifest(POLICY, spec={"podSelector": {}, "policyTypes": BOTH, **spec})


def quota(**hard):
    return manifest(QUOTA, spec={"hard": hard})


def pods_class(name, value, **given):
    return manifest("scheduling.k8s.io/v1:PriorityClass", name, value=value, **given)


def keeping(claims=({"metadata": {"name": "data"}},), **pod):
    """A StatefulSet strictly over zones, of the class `standard`."""
    spread = [{"topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"}]
    pod = {"containers": [CONTAINER], "priorityClassName": "standard", "topologySpreadConstraints": spread, **pod}
    return manifest("apps/v1:StatefulSet", spec={"volumeClaimTemplates": claims, "template": {"spec": pod}})


CASES = [
    Case(
        "requests-and-limits",
        (deployment(),),
        (
            in_container(resources={}),
            in_container(resources={"requests": {"cpu": "1", "memory": "1Mi"}}),
            in_container(resources={"requests": {"memory": "1Mi"}, "limits": {"memory": "1Mi"}}),
            deployment(initContainers=[{"name": "first", "image": "x"}]),
        ),
    ),
    Case(
        "probes",
        (deployment(), deployment(initContainers=[{"name": "first"}])),
        (in_container(livenessProbe=None), in_container(readinessProbe=None)),
    ),
    Case(
        "non-root",
        (deployment(), deployment(securityContext={}, container={"securityContext": {"runAsNonRoot": True}})),
        (for_pod(runAsNonRoot=None), for_pod(runAsUser=0), secured(runAsNonRoot=False)),
    ),
    Case(
        "read-only-root", (deployment(),), (secured(readOnlyRootFilesystem=False), in_container(securityContext=None))
    ),
    Case(
        "capabilities",
        (deployment(), secured(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]})),
        (
            secured(capabilities={}),
            secured(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
            secured(allowPrivilegeEscalation=True),
            secured(privileged=True),
        ),
    ),
    Case("seccomp", (deployment(),), (for_pod(seccompProfile=None), secured(seccompProfile={"type": "Unconfined"}))),
    Case(
        "host",
        (deployment(volumes=[{"name": "tmp", "emptyDir": {}}]),),
        (deployment(hostNetwork=True), deployment(volumes=[{"name": "root", "hostPath": {"path": "/"}}])),
    ),
    Case(
        "digests",
        (deployment(),),
        (
            in_container(image="one:1.0"),
            in_container(image="one"),
            in_container(image="one@sha256:abc"),
            in_container(image="one:latest@sha256:" + "a" * 64),
        ),
    ),
    Case(
        "automount",
        (deployment(), manifest("core/v1:ServiceAccount", automountServiceAccountToken=False)),
        (deployment(automountServiceAccountToken=None), manifest("core/v1:ServiceAccount")),
    ),
    Case("accounts", (deployment(),), (deployment(serviceAccountName="default"),)),
    Case(
        "spread",
        (deployment(), deployment(replicas=1, topologySpreadConstraints=[])),
        (
            deployment(topologySpreadConstraints=[]),
            deployment(topologySpreadConstraints=[{"topologyKey": "kubernetes.io/hostname"}]),
        ),
    ),
    Case("priority", (deployment(),), (deployment(priorityClassName=None),)),
    Case(
        "volumes",
        (
            keeping(priorityClassName="above"),
            keeping(priorityClassName="quiet"),
            keeping(claims=()),
            keeping(topologySpreadConstraints=[]),
            keeping(topologySpreadConstraints=[{"topologyKey": ZONE, "whenUnsatisfiable": "ScheduleAnyway"}]),
        ),
        (keeping(), keeping(priorityClassName="other")),
        (
            pods_class("standard", 5),
            pods_class("other", 5),
            pods_class("above", 9),
            pods_class("quiet", 10, preemptionPolicy="Never"),
        ),
    ),
    Case(
        "secret-variables",
        (
            in_container(env=[{"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {}}}]),
            in_container(env=[{"name": "URL", "value": "redis://user:$(PASSWORD)@host"}]),
        ),
        (
            in_container(env=[{"name": "API_TOKEN", "value": "abc"}]),
            in_container(env=[{"name": "URL", "value": "redis://user:abc@host"}]),
        ),
    ),
    Case(
        "disruption",
        (budget(maxUnavailable=1), budget(minAvailable="50%")),
        (
            budget(maxUnavailable=0),
            budget(minAvailable=2),
            budget(minAvailable="100%"),
            budget(maxUnavailable="100%"),
            budget(minAvailable=0),
            manifest("policy/v1:PodDisruptionBudget", spec={"selector": {"matchLabels": {"app": "two"}}}),
        ),
        (deployment(),),
    ),
    Case(
        "scaling",
        (manifest(HPA, spec={"minReplicas": 2, "maxReplicas": 3}), manifest(KEDA, spec={"minReplicaCount": 2})),
        (
            manifest(HPA, spec={"maxReplicas": 3}),
            manifest(HPA, spec={"minReplicas": 4, "maxReplicas": 3}),
            manifest(KEDA, spec={}),
        ),
    ),
    Case(
        "network-policies",
        (closed(),),
        (
            closed(ingress=[{}]),
            closed(policyTypes=["Ingress"]),
            closed(podSelector={"matchLabels": {"app": "one"}}),
            manifest(POLICY, space="other", spec={"podSelector": {}, "policyTypes": BOTH}),
        ),
        (deployment(),),
    ),
    Case(
        "pod-security",
        (manifest("core/v1:Namespace", labels=RESTRICTED),),
        (
            manifest("core/v1:Namespace"),
            manifest("core/v1:Namespace", labels={"pod-security.kubernetes.io/enforce": "baseline"}),
        ),
    ),
    Case(
        "quotas",
        (quota(pods="6", **{"requests.cpu": "600m", "limits.memory": "384Mi", "requests.storage": "1Gi"}),),
        (quota(pods="5"), quota(**{"requests.cpu": "599m"}), quota(**{"limits.memory": "383Mi"})),
        (deployment(), manifest(HPA, spec={"scaleTargetRef": TARGET, "minReplicas": 2, "maxReplicas": 6})),
    ),
    Case(
        "rights",
        (role(), binding("reader")),
        (role(verbs=["*"]), role(resources=["*"]), role(apiGroups=["*"]), binding("cluster-admin")),
    ),
    Case(
        "way-in",
        (
            manifest("core/v1:Service", spec={}),
            manifest("networking.k8s.io/v1:Ingress", spec={"tls": [{"secretName": "one"}]}),
        ),
        (
            manifest("core/v1:Service", spec={"type": "LoadBalancer"}),
            manifest("core/v1:Service", spec={"type": "NodePort"}),
            manifest("networking.k8s.io/v1:Ingress", spec={}),
        ),
    ),
    Case("charts", (manifest("helm.sh/v3:Release", version="1.0"),), (manifest("helm.sh/v3:Release", chart="one"),)),
    Case(
        "kubernetes-secrets",
        (manifest("core/v1:Secret"),),
        (manifest("core/v1:Secret", stringData={"password": "abc"}),),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_what_keeps_a_rule_is_let_through_and_what_breaks_it_is_named(case):
    for right in case.keeps:
        assert said(case.rule, right, *case.beside) == []
    for wrong in case.breaks:
        assert said(case.rule, wrong, *case.beside), wrong.inputs


def test_every_rule_has_its_cases():
    rules = {one.name for room in (rules_pods, rules_cluster) for one in vars(room).values() if isinstance(one, Rule)}
    assert {case.rule for case in CASES} == rules


def test_two_budgets_over_the_same_pods_are_one_too_many():
    two = manifest("policy/v1:PodDisruptionBudget", "two", spec={"selector": {}, "maxUnavailable": 1})
    assert "leave one" in said("disruption", deployment(), budget(maxUnavailable=1), two)[0]


@settings(max_examples=examples(100))
@given(replicas=st.integers(0, 200), share=st.integers(0, 100), count=st.integers(0, 200))
def test_a_budget_lets_go_what_it_does_not_keep(replicas, share, count):
    assert may_go({"minAvailable": count}, replicas) == max(0, replicas - count)
    assert may_go({"maxUnavailable": count}, replicas) == min(replicas, count)
    kept = replicas - may_go({"minAvailable": f"{share}%"}, replicas)
    assert kept * 100 >= replicas * share > (kept - 1) * 100 or kept == 0 == replicas * share


@settings(max_examples=examples(100))
@given(st.integers(0, 10**6))
def test_quantities_are_the_same_in_every_unit(number):
    assert amount(f"{number * 1000}m") == amount(number)
    assert amount(f"{number}Gi") == amount(f"{number * 1024}Mi") == number * 2**30
    assert amount(f"{number}k") == number * 1000
