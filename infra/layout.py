"""Which stacks a phase has, in which regions, and in which order they are made.

Pure data: what a stack holds is said by the programs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from infra.errors import InfraError
from infra.phases import PHASES, Compute, Phase, PhaseName
from infra.regions import region as known_region


class Layer(StrEnum):
    """What a stack holds: a whole PoC, what a cluster stands on, what runs in it, what joins regions, or the workloads
    of a phase on a cluster that the user already has."""

    SINGLE = "single"
    INFRA = "infra"
    APPS = "apps"
    EDGE = "edge"
    CLUSTER = "cluster"


CLUSTER_APPS: Final = "cluster-apps"
EDGE: Final = "edge"
_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_FORMS: Final = (
    "'poc-<region>', '<phase>-<region>-infra', '<phase>-<region>-apps' (small, medium, multi-region), "
    f"'multi-region-edge' or '{CLUSTER_APPS}', for example 'small-eu-central-1-infra'"
)


@dataclass(frozen=True, slots=True)
class StackName:
    """A stack by its parts: `poc-eu-central-1`, `small-eu-central-1-infra`, `multi-region-edge`, `cluster-apps`.

    `phase` is None for `cluster-apps`, whose settings name it; `region` is empty for stacks that belong to none.
    """

    phase: PhaseName | None
    region: str
    layer: Layer

    def __str__(self) -> str:
        if self.phase is None:
            return CLUSTER_APPS
        if self.layer is Layer.EDGE:
            return f"{self.phase}-{EDGE}"
        return f"{self.phase}-{self.region}" + ("" if self.layer is Layer.SINGLE else f"-{self.layer}")

    @classmethod
    def parse(cls, name: str) -> "StackName":
        """Raises InfraError that says which forms there are."""
        if name == CLUSTER_APPS:
            return cls(None, "", Layer.CLUSTER)
        for phase in PHASES.values():
            rest = name.removeprefix(f"{phase.name}-")
            found = next((stack for stack in _named(phase, rest) if str(stack) == name), None)
            if found is not None:
                return found
        raise InfraError(f"There is no stack '{name}': its name is {_FORMS}.")


def _named(phase: Phase, rest: str) -> Sequence[StackName]:
    region = _REGION.match(rest)
    return stacks_of(phase, (region.group(),) if region else phase.fleet.regions)


def stacks_of(phase: Phase, regions: Sequence[str] = ()) -> tuple[StackName, ...]:
    """In the order in which they are made; the opposite order takes them down.

    Args:
        regions: AWS's names; the phase's own where none are given.

    Raises InfraError for a region that a phase of several does not have: its regions are joined, and know each other.
    """
    name, regions = phase.name, regions or phase.fleet.regions
    if phase.fleet.compute is Compute.INSTANCE:
        return tuple(StackName(name, region, Layer.SINGLE) for region in regions)
    infra, apps = (tuple(StackName(name, region, layer) for region in regions) for layer in (Layer.INFRA, Layer.APPS))
    if phase.fleet.compute is not Compute.EKS_MULTI_REGION:
        return (*infra, *apps)
    for region in regions:
        if region not in phase.fleet.regions:
            raise InfraError(
                f"The phase '{name}' is in {', '.join(phase.fleet.regions)}: add '{region}' to its regions in "
                "infra/phases.py, so that it joins them."
            )
    # Pods of a region that has no writer reach it by ways that the edge makes.
    return (*infra, StackName(name, "", Layer.EDGE), *apps)


def before(stack: StackName, regions: Sequence[str] = ()) -> tuple[StackName, ...]:
    """The stacks that one reads outputs of: they are made first."""
    if stack.layer is Layer.APPS:
        return (StackName(stack.phase, stack.region, Layer.INFRA),)
    if stack.phase is None or stack.layer is Layer.SINGLE:
        return ()
    regions = regions or PHASES[stack.phase].fleet.regions
    if stack.layer is Layer.EDGE:
        return tuple(StackName(stack.phase, region, Layer.INFRA) for region in regions)
    # The first region has the database's writer; the others join its global cluster.
    first = StackName(stack.phase, regions[0], Layer.INFRA)
    return () if stack == first or stack.region not in regions else (first,)


def chosen(phase: str, region: str) -> tuple[StackName, ...]:
    """The stacks of a phase by its name: all of them, or those of one region.

    Raises InfraError for a name that there is not.
    """
    if phase == CLUSTER_APPS:
        if region:
            raise InfraError(f"'{CLUSTER_APPS}' is in no region: it is wherever its kubeconfig leads.")
        return (StackName(None, "", Layer.CLUSTER),)
    try:
        declared = PHASES[PhaseName(phase)]
    except ValueError:
        raise InfraError(f"There is no phase '{phase}': there are {', '.join(PHASES)} and {CLUSTER_APPS}.") from None
    if not region:
        return stacks_of(declared)
    known_region(region)
    return tuple(stack for stack in stacks_of(declared, (region,)) if stack.region)
