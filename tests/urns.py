"""The names under which an engine knows every resource: `python -m tests.urns write [--drop]`.

A URN that changes is a resource that is deleted and made anew, data and all. The lists in `tests/data/urns` are what
was agreed on: a new resource is added by `make urns`, one that is renamed needs an alias, and one that is to go is
dropped on purpose only (`make urns DROP=1`).
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.difference import successors
from infra.files import stack_files
from infra.offline import graphs
from infra.recording import Graph
from infra.report import short

FOLDER = Path(__file__).parent / "data" / "urns"


def kept(stack: str, folder: Path = FOLDER) -> Sequence[str]:
    path = folder / f"{stack}.txt"
    return path.read_text().split() if path.exists() else []


def lost(graph: Graph, folder: Path = FOLDER) -> Sequence[str]:
    """URNs that were agreed on, are no more, and that no alias follows."""
    followed = successors(kept(graph.stack, folder), graph.resources)
    now = {resource.urn for resource in graph.resources}
    return [urn for urn in kept(graph.stack, folder) if urn not in now and urn not in followed]


def complaints(found: Mapping[str, Graph], folder: Path = FOLDER) -> Sequence[str]:
    """A sentence for each stack that is not as it was agreed on."""
    said = []
    for stack, graph in found.items():
        gone = lost(graph, folder)
        if gone:
            names = ", ".join(short(urn) for urn in gone)
            said.append(f"{stack}: {names}: give what takes its place an alias, or drop it with `make urns DROP=1`.")
        elif list(kept(stack, folder)) != [resource.urn for resource in graph.resources]:
            said.append(f"{stack}: there are new or renamed resources: `make urns` writes them down.")
    gone_stacks = {path.stem for path in folder.glob("*.txt")} - found.keys()
    return [*said, *(f"{stack}: the whole stack is gone: `make urns DROP=1`." for stack in sorted(gone_stacks))]


def write(found: Mapping[str, Graph], folder: Path = FOLDER, *, drop: bool) -> Sequence[str]:
    """Writes the lists anew. What would be lost is left as it is, and said, unless it is to be dropped."""
    folder.mkdir(parents=True, exist_ok=True)
    refused = []
    for stack, graph in found.items():
        gone = lost(graph, folder)
        if gone and not drop:
            refused += [f"{stack}: {short(urn)} would be lost" for urn in gone]
            continue
        (folder / f"{stack}.txt").write_text("".join(f"{resource.urn}\n" for resource in graph.resources))
    for path in folder.glob("*.txt"):
        if path.stem not in found and drop:
            path.unlink()
        elif path.stem not in found:
            refused.append(f"{path.stem}: the whole stack would be lost")
    return refused


def main(arguments: Sequence[str]) -> int:
    if arguments not in (["write"], ["write", "--drop"]):
        print("usage: python -m tests.urns write [--drop]", file=sys.stderr)
        return 2
    names = list(stack_files())
    every = graphs(names)
    refused = write({name: every[name] for name in names}, drop="--drop" in arguments)
    for line in refused:
        print(f"{line}: give what takes its place an alias, or say DROP=1.", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
