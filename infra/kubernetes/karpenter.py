"""Which nodes Karpenter makes: for all that runs, and with GPUs for models; and when it may take them away again."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta import v1 as meta

from infra.kubernetes.gpu import GPU_NODES, GPU_TAINT
from infra.kubernetes.part import Part
from infra.kubernetes.pods import ZONE, labels
from infra.naming import tags
from infra.outputs import CellOutputs
from infra.phases import ModelServer, Nodes
from infra.regions import region
from infra.settings import Apps, Stack
from infra.versions import NODE_IMAGE

GENERAL: Final = "general"
GPU: Final = "gpu"
POOL: Final = "trellis.dev/pool"
_TYPE: Final = "node.kubernetes.io/instance-type"
_CAPACITY: Final = "karpenter.sh/capacity-type"
_WORKING_HOURS: Final = (6, 20)
"""UTC, Monday to Friday: then nodes are tidied up one at a time."""
_REPLACED_AFTER: Final = "720h"
"""A node is never older than a month, whose updates it would lack."""
_DISKS_GIB: Final = {GENERAL: 60, GPU: 150}
"""Of a node: images and what pods write to folders of their own. One image of vLLM has more than 10 GB."""


class NodePools(Part):
    """A node class and a pool for each kind of node that the phase has."""

    def __init__(
        self,
        stack: Stack,
        cell: CellOutputs,
        opts: pulumi.ResourceOptions,
        *,
        after: Sequence[pulumi.Resource],
    ) -> None:
        super().__init__("NodePools", stack, opts, after=after)
        nodes, given = stack.phase.nodes, stack.given
        assert nodes is not None
        assert isinstance(given, Apps)
        self._cell = cell
        self._kind(GENERAL, general(stack, nodes, spot=given.spot))
        if stack.phase.models is not None:
            self._kind(GPU, gpu(stack, nodes, stack.phase.models))
        self.register_outputs({})

    def _kind(self, name: str, spec: Mapping[str, Any]) -> None:
        made = self._resource("EC2NodeClass", "karpenter.k8s.aws/v1", name, self._class(name), [])
        self._resource("NodePool", "karpenter.sh/v1", name, spec, [made])

    def _resource(
        self, kind: str, api: str, name: str, spec: Mapping[str, Any], after: Sequence[pulumi.Resource]
    ) -> CustomResource:
        return CustomResource(
            f"{kind.lower()}-{name}",
            api_version=api,
            kind=kind,
            metadata=meta.ObjectMetaArgs(name=name, labels=labels(name, "nodes")),
            spec=dict(spec),
            opts=self.child(depends_on=after),
        )

    def _class(self, name: str) -> Mapping[str, Any]:
        """Encrypted disks, and no way from a pod to the machine's own rights: IMDSv2 over one hop."""
        disk = {
            "volumeType": "gp3",
            "volumeSize": f"{_DISKS_GIB[name]}Gi",
            "encrypted": True,
            "kmsKeyID": self._cell.key_arn,
            "deleteOnTermination": True,
        }
        return {
            "amiSelectorTerms": [{"alias": NODE_IMAGE}],
            "instanceProfile": self._cell.node_profile,
            "subnetSelectorTerms": self._cell.private_subnets.apply(
                lambda known: [{"id": subnet} for subnet in known.split(",") if subnet]
            ),
            "securityGroupSelectorTerms": [{"id": self._cell.security_group}],
            "metadataOptions": {"httpEndpoint": "enabled", "httpTokens": "required", "httpPutResponseHopLimit": 1},
            "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": disk}],
            "tags": dict(tags(self.stack, f"{self.named(name)}-node")),
        }


def general(stack: Stack, nodes: Nodes, *, spot: bool) -> Mapping[str, Any]:
    """For everything but models, never more than the phase pays for."""
    return _pool(
        stack,
        {POOL: GENERAL},
        nodes.general,
        ["spot", "on-demand"] if spot else ["on-demand"],
        limits={"cpu": str(nodes.most_vcpu)},
        disruption=_tidied("WhenEmptyOrUnderutilized", "5m", [*_daytime(_WORKING_HOURS), {"nodes": "30%"}]),
    )


def gpu(stack: Stack, nodes: Nodes, models: ModelServer) -> Mapping[str, Any]:
    """For models alone. A node goes when its model has gone; by day none is exchanged that still serves."""
    # Many wait for one model: a node that may be taken away within two minutes is none for it.
    return _pool(
        stack,
        {**GPU_NODES, "nvidia.com/gpu.present": "true"},
        nodes.gpu,
        ["on-demand"],
        limits={"nvidia.com/gpu": str(nodes.gpu_most)},
        disruption=_tidied(
            "WhenEmpty",
            "10m",
            [*_daytime(models.day_utc, reasons=["Drifted"], nodes="0"), {"nodes": "1"}],
        ),
        taints=[{"key": GPU_TAINT, "value": "true", "effect": "NoSchedule"}],
    )


def _pool(
    stack: Stack,
    labelled: Mapping[str, str],
    types: Sequence[str],
    capacity: Sequence[str],
    *,
    limits: Mapping[str, str],
    disruption: Mapping[str, Any],
    taints: Sequence[Mapping[str, str]] = (),
) -> Mapping[str, Any]:
    wanted = {_TYPE: types, _CAPACITY: capacity, ZONE: region(stack.region).zones}
    return {
        "template": {
            "metadata": {"labels": dict(labelled)},
            "spec": {
                "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": labelled[POOL]},
                "requirements": [
                    {"key": key, "operator": "In", "values": list(values)} for key, values in wanted.items()
                ],
                "expireAfter": _REPLACED_AFTER,
                # A pod that will not go holds a node no longer than this.
                "terminationGracePeriod": "1h",
                **({"taints": list(taints)} if taints else {}),
            },
        },
        "limits": dict(limits),
        "disruption": dict(disruption),
    }


def _tidied(policy: str, after: str, budgets: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return {"consolidationPolicy": policy, "consolidateAfter": after, "budgets": list(budgets)}


def _daytime(hours: tuple[int, int], *, reasons: Sequence[str] = (), nodes: str = "1") -> Sequence[Mapping[str, Any]]:
    """The narrowest of the budgets that hold at a time is the one that counts."""
    begins, ends = hours
    window = {"nodes": nodes, "schedule": f"0 {begins} * * mon-fri", "duration": f"{ends - begins}h"}
    return [{**window, **({"reasons": list(reasons)} if reasons else {})}]
