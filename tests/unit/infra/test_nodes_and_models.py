"""Which nodes Karpenter may make and take away, and when there is how many of our own models."""

from dataclasses import replace
from typing import Any

import pytest

from infra.kubernetes import karpenter
from infra.kubernetes.gpu import GPU_NODES, GPU_TAINT
from infra.kubernetes.vllm import AT_ONCE, BUSY, scaling
from infra.layout import StackName
from infra.phases import PHASES, ModelServer, Nodes, PhaseName
from infra.settings import Apps, Stack

_PHASE = PHASES[PhaseName.MEDIUM]
assert _PHASE.nodes is not None
assert _PHASE.models is not None
_NODES: Nodes = _PHASE.nodes
_MODELS: ModelServer = _PHASE.models
_STACK = Stack(
    StackName.parse("medium-eu-central-1-apps"),
    _PHASE,
    Apps(
        account="111111111111",
        domain="agents.example.com",
        image="registry.example.com/trellis/app@sha256:" + "0" * 64,
        model_url="https://models.example.com/v1",
        model_name="general",
    ),
)


def _wanted(pool: Any, key: str) -> list[str]:
    (found,) = [one["values"] for one in pool["template"]["spec"]["requirements"] if one["key"] == key]
    return list(found)


def test_nodes_are_of_the_types_and_within_the_limits_that_the_phase_pays_for() -> None:
    general = karpenter.general(_STACK, _NODES, spot=False)
    models = karpenter.gpu(_STACK, _NODES, _MODELS)
    assert _wanted(general, "node.kubernetes.io/instance-type") == list(_NODES.general)
    assert _wanted(models, "node.kubernetes.io/instance-type") == list(_NODES.gpu)
    assert general["limits"] == {"cpu": str(_NODES.most_vcpu)}
    assert models["limits"] == {"nvidia.com/gpu": str(_NODES.gpu_most)}


@pytest.mark.parametrize(("spot", "capacity"), [(False, ["on-demand"]), (True, ["spot", "on-demand"])])
def test_spot_nodes_are_taken_where_the_setting_says_so_and_never_for_models(spot: bool, capacity: list[str]) -> None:
    key = "karpenter.sh/capacity-type"
    assert _wanted(karpenter.general(_STACK, _NODES, spot=spot), key) == capacity
    assert _wanted(karpenter.gpu(_STACK, _NODES, _MODELS), key) == ["on-demand"]


def test_nothing_but_models_comes_onto_a_node_with_gpus() -> None:
    template = karpenter.gpu(_STACK, _NODES, _MODELS)["template"]
    assert {"key": GPU_TAINT, "value": "true", "effect": "NoSchedule"} in template["spec"]["taints"]
    assert GPU_NODES.items() <= template["metadata"]["labels"].items()
    assert "taints" not in karpenter.general(_STACK, _NODES, spot=False)["template"]["spec"]


def test_by_day_nodes_go_one_at_a_time_and_at_night_more() -> None:
    budgets = karpenter.general(_STACK, _NODES, spot=False)["disruption"]["budgets"]
    by_day = [one for one in budgets if "schedule" in one]
    assert by_day == [{"nodes": "1", "schedule": "0 6 * * mon-fri", "duration": "14h"}]
    assert [one["nodes"] for one in budgets if "schedule" not in one] == ["30%"]


def _trigger(kind: str, models: ModelServer = _MODELS) -> Any:
    return next(one["metadata"] for one in scaling(models)["triggers"] if one["type"] == kind)


def test_models_keep_the_hours_of_the_phase() -> None:
    clock = _trigger("cron", replace(_MODELS, day_utc=(5, 19), least=2))
    assert (clock["start"], clock["end"], clock["desiredReplicas"]) == ("0 5 * * *", "0 19 * * *", "2")
    assert clock["timezone"] == "Etc/UTC"
    spec = scaling(replace(_MODELS, night_least=1, most=7))
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 7)


def test_whoever_waits_brings_another_pod() -> None:
    asked = _trigger("prometheus")
    assert "vllm:num_requests_waiting" in asked["query"]
    # One request that waits in a pod that is full is over the threshold.
    assert int(asked["threshold"]) <= BUSY < AT_ONCE
    assert asked["activationThreshold"] == "0"
