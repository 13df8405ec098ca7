"""Runs the programs of stacks without an engine, each in a process of its own, in the order of their outputs."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from infra.errors import InfraError
from infra.files import STACKS, UNREADABLE, Configured, configured, file_of, lender, stack_files
from infra.layout import Layer, StackName, before
from infra.naming import PREFIX
from infra.programs import run
from infra.recording import Graph, record
from infra.settings import key, secrets_of

_PROCESSES: Final = 2
# Read once, by the process that the others come from: most of a program's time is the libraries that it imports.
_MODULES: Final = {
    Layer.SINGLE: "infra.programs.single",
    Layer.INFRA: "infra.programs.cell",
    Layer.APPS: "infra.programs.workloads",
    Layer.CLUSTER: "infra.programs.workloads",
    Layer.EDGE: "infra.programs.edge",
}

Outputs = Mapping[str, Mapping[str, Any]]
_Argument = tuple[str, Configured]


def graphs(names: Iterable[str], folder: Path = STACKS, outputs: Outputs | None = None) -> Mapping[str, Graph]:
    """What each stack asks for; also runs, and returns, the stacks that one reads outputs of.

    A stack in another region than its phase's, with no file of its own, is planned with its phase's (`lender`).

    Raises InfraError: no such stack, no file for it, a wrong setting, or what the program itself refuses.
    """
    known, found = dict(outputs or {}), dict[str, Graph]()
    waves = _waves(names)
    context = get_context("forkserver")
    context.set_forkserver_preload(sorted({_MODULES[StackName.parse(name).layer] for wave in waves for name in wave}))
    for wave in waves:
        arguments = [(name, settings_of(StackName.parse(name), folder)) for name in wave if name not in known]
        # A process each: Pulumi's runtime is global. A fresh one: its threads do not survive a fork.
        with ProcessPoolExecutor(_PROCESSES, context, max_tasks_per_child=1) as pool:
            for graph in pool.map(partial(_recorded, folder=folder, outputs=known), arguments):
                found[graph.stack] = graph
        known |= {name: found[name].outputs for name, _ in arguments}
    return found


def settings_of(stack: StackName, folder: Path = STACKS) -> Configured:
    """With something in the place of secrets that are not set yet: a plan does not need to know them.

    Raises InfraError where neither the stack nor its phase has a file.
    """
    found = configured(file_of(lent(stack, folder), folder))
    secrets = {key(field) for field in secrets_of(stack)}
    texts = {**dict.fromkeys(secrets, UNREADABLE), **found.texts}
    return Configured(texts, found.encrypted | (secrets - found.texts.keys()))


def lent(stack: StackName, folder: Path = STACKS) -> StackName:
    """Whose file a plan of the stack takes: its own where there is one."""
    return stack if str(stack) in stack_files(folder) else lender(stack, folder) or stack


def _recorded(argument: _Argument, folder: Path, outputs: Outputs) -> Graph:
    name, settings = argument
    region = StackName.parse(name).region
    return record(name, region, partial(run, name, folder), settings.texts, outputs, sorted(settings.encrypted))


def _waves(names: Iterable[str]) -> Sequence[Sequence[str]]:
    """Each wave needs outputs of earlier ones only."""
    depth: dict[str, int] = {}

    def visit(stack: StackName) -> int:
        depth[str(stack)] = max((visit(other) + 1 for other in before(stack)), default=0)
        return depth[str(stack)]

    for name in names:
        visit(StackName.parse(name))
    return [[name for name, at in depth.items() if at == level] for level in range(max(depth.values(), default=-1) + 1)]


def main(names: Sequence[str]) -> int:
    """Runs the stacks named, or all; the exit code is 2 for what the user has to mend."""
    try:
        for stack, graph in graphs(names or stack_files()).items():
            print(f"{PREFIX} {stack}: {len(graph.resources)} resources")
    except InfraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
