"""What the stacks ask of Kubernetes, as their programs say it; each program is run once in a session."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from infra.files import STACKS, stack_files
from infra.layout import CLUSTER_APPS, Layer, StackName
from infra.offline import graphs
from infra.phases import PHASES, Phase, PhaseName
from infra.recording import Graph
from infra.report import manifests
from tests.support.kubernetes import Object

CLUSTER_PHASES: Final = tuple(phase.name for phase in PHASES.values() if phase.nodes is not None)
OTHER_IMAGE: Final = f"registry.example.com/trellis/app@sha256:{'1' * 64}"
# What others need before they can be made.
_FIRST: Final = ("Namespace", "PriorityClass", "StorageClass", "LimitRange", "ResourceQuota", "ServiceAccount")
_RELEASE: Final = "kubernetes:helm.sh/v3:Release"
_SCALERS: Final = {
    "HorizontalPodAutoscaler": ("minReplicas", "maxReplicas"),
    "ScaledObject": ("minReplicaCount", "maxReplicaCount"),
}


@dataclass(frozen=True)
class Rendered:
    """One stack's objects in the order in which they can be made, and the charts that it installs."""

    graph: Graph
    objects: Sequence[Object]

    @classmethod
    def of(cls, graph: Graph) -> "Rendered":
        rank = {kind: place for place, kind in enumerate(_FIRST)}
        return cls(graph, sorted(manifests(graph), key=lambda one: rank.get(one["kind"], len(rank))))

    @property
    def region(self) -> str:
        return StackName.parse(self.graph.stack).region

    def of_kind(self, *kinds: str) -> Sequence[Object]:
        return [one for one in self.objects if one["kind"] in kinds]

    def one(self, kind: str, name: str) -> Object:
        (found,) = (one for one in self.of_kind(kind) if one["metadata"]["name"] == name)
        return found

    def charts(self) -> Sequence[Mapping[str, Any]]:
        return [resource.inputs for resource in self.graph.of(_RELEASE)]

    def bounds(self) -> Mapping[tuple[str, str], tuple[int, int]]:
        """Least and most pods by namespace and name of what is scaled."""
        found = {}
        for scaler in self.of_kind(*_SCALERS):
            least, most = (scaler["spec"].get(field) for field in _SCALERS[scaler["kind"]])
            place = (scaler["metadata"]["namespace"], scaler["spec"]["scaleTargetRef"]["name"])
            found[place] = (1 if least is None else least, most)
        return found


def apps_of(name: PhaseName) -> str:
    """The stack of a phase's workloads in its first region."""
    return str(StackName(name, PHASES[name].fleet.regions[0], Layer.APPS))


def every_stack() -> Mapping[str, Rendered]:
    """Each stack of the repository that has anything in Kubernetes."""
    kinds = (Layer.APPS, Layer.CLUSTER)
    wanted = [name for name in stack_files() if StackName.parse(name).layer in kinds]
    found = graphs(wanted)
    return {name: Rendered.of(found[name]) for name in wanted}


def cluster_apps(folder: Path, phase: PhaseName, **settings: str) -> Rendered:
    """The workloads of a phase on a cluster that is there, with other settings than the repository's file has."""
    return changed(folder, CLUSTER_APPS, phase=str(phase), **settings)


def changed(folder: Path, stack: str, **settings: str) -> Rendered:
    """A stack with other settings than the repository's file has."""
    shutil.copytree(STACKS, folder, dirs_exist_ok=True)
    file = folder / f"Pulumi.{stack}.yaml"
    content = yaml.safe_load(file.read_text())
    content["config"] |= {f"trellis:{key}": value for key, value in settings.items()}
    file.write_text(yaml.safe_dump(content))
    return Rendered.of(graphs([stack], folder)[stack])


def phase_of(rendered: Rendered) -> Phase:
    name = StackName.parse(rendered.graph.stack).phase
    assert name is not None
    return PHASES[name]


def kinds_of(objects: Iterable[Object]) -> set[tuple[str, str]]:
    return {(one["apiVersion"], one["kind"]) for one in objects}
