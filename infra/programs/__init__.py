"""What each kind of stack holds."""

from collections.abc import Callable
from pathlib import Path

from infra.checks import check
from infra.files import STACKS
from infra.layout import Layer
from infra.settings import Stack, load

Program = Callable[[Stack], None]


def run(name: str, folder: Path = STACKS) -> None:
    """What the stack of that name asks for. Raises InfraError, before any resource, for what its user has to mend."""
    stack = load(name)
    check(stack, folder)
    program(stack.name.layer)(stack)


def program(layer: Layer) -> Program:
    """Only the one asked for is imported: AWS's and Kubernetes's libraries are large."""
    match layer:
        case Layer.SINGLE:
            from infra.programs.single import single

            return single
        case Layer.INFRA:
            from infra.programs.cell import cell

            return cell
        case Layer.EDGE:
            from infra.programs.edge import edge

            return edge
        case Layer.APPS | Layer.CLUSTER:
            from infra.programs.workloads import workloads

            return workloads
