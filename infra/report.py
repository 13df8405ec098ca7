"""What a plan shows: a tree and tables for people, JSON and manifests for machines. Nothing that moves between runs."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import yaml
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from infra.errors import InfraError
from infra.exposure import protected, public
from infra.layout import StackName
from infra.picture import picture
from infra.recording import Graph, Resource

_NOT_MANIFESTS: Final = ("kubernetes:helm.sh/", "pulumi:providers:")


def manifests(graph: Graph) -> Sequence[Mapping[str, Any]]:
    """The Kubernetes objects of a stack as they would be applied, in order of kind, namespace and name."""
    found = [
        dict(resource.inputs)
        for resource in graph.resources
        if resource.type.startswith("kubernetes:") and not resource.type.startswith(_NOT_MANIFESTS)
    ]
    return sorted(found, key=_identity)


def _identity(manifest: Mapping[str, Any]) -> tuple[str, str, str]:
    meta = manifest.get("metadata") or {}
    return str(manifest.get("kind")), str(meta.get("namespace", "")), str(meta.get("name", ""))


def short(urn: str) -> str:
    """A URN without its stack and project: `trellis:aws:Network$aws:ec2/vpc:Vpc::vpc`."""
    return "::".join(urn.split("::")[2:])


def tree(graph: Graph) -> Tree:
    """Components with what they hold."""
    reached = public(graph)
    root = Tree(f"[bold]{graph.stack}[/] · {len(graph.resources)} resources")
    branches: dict[str, Tree] = {}
    for resource in _parents_first(graph):
        branch = branches.get(resource.parent, root)
        branches[resource.urn] = branch.add(_line(resource, reached.get(resource.urn)))
    return root


def _line(resource: Resource, reason: str | None) -> str:
    if not resource.custom:
        return f"[bold]{resource.name}[/] [dim]{resource.type}[/]"
    marks = [f"[red]public: {escape(reason)}[/]"] if reason else []
    marks += ["[green]protected[/]"] if protected(resource) else []
    return " ".join([escape(resource.name), f"[dim]{resource.type.rpartition(':')[2]}[/]", *marks])


def _parents_first(graph: Graph) -> Iterator[Resource]:
    known = {resource.urn for resource in graph.resources}
    children: dict[str, list[Resource]] = {}
    for resource in graph.resources:
        children.setdefault(resource.parent if resource.parent in known else "", []).append(resource)

    def below(parent: str) -> Iterator[Resource]:
        for resource in children.get(parent, ()):
            yield resource
            yield from below(resource.urn)

    return below("")


def summary(graphs: Mapping[str, Graph]) -> Table:
    """A line a stack: how much it makes, what of it is public, what is protected."""
    table = Table(title="Stacks", title_justify="left")
    for column in ("stack", "resources", "AWS", "Kubernetes", "public", "protected"):
        table.add_column(column, justify="left" if column == "stack" else "right")
    for name, graph in graphs.items():
        kinds = Counter(resource.type.partition(":")[0] for resource in graph.resources if resource.custom)
        guarded = sum(protected(resource) for resource in graph.resources)
        cells = (sum(kinds.values()), kinds["aws"], kinds["kubernetes"], len(public(graph)), guarded)
        table.add_row(name, *map(str, cells))
    return table


def write_all(graphs: Mapping[str, Graph], out: Path) -> None:
    """A folder for each stack, and a picture of each phase beside them. Raises InfraError where that fails."""
    try:
        phases: dict[str, dict[str, Graph]] = {}
        for name, graph in graphs.items():
            write(graph, out / name)
            phases.setdefault(str(StackName.parse(name).phase or name), {})[name] = graph
        for phase, of in phases.items():
            (out / f"{phase}.svg").write_text(picture(of))
    except OSError as error:
        raise InfraError(f"The plan cannot be written to {out}: {error.strerror}.") from None


def write(graph: Graph, folder: Path) -> None:
    """`graph.json`, `architecture.svg` and, where there are any, `manifests/*.yaml`, in a folder of the stack's own.

    What an earlier plan wrote there and this one does not is taken away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "manifests"
    files = {place / _file(number, manifest): manifest for number, manifest in enumerate(manifests(graph))}
    for old in set(place.glob("*.yaml")) - files.keys():
        old.unlink()
    (folder / "graph.json").write_text(json.dumps(asdict(graph), indent=1, sort_keys=True) + "\n")
    (folder / "architecture.svg").write_text(picture({graph.stack: graph}))
    for file, manifest in files.items():
        place.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(manifest, sort_keys=True))


def _file(number: int, manifest: Mapping[str, Any]) -> str:
    kind, namespace, name = _identity(manifest)
    return f"{number:03}-{kind}-{namespace or 'cluster'}-{name}.yaml".lower().replace(":", "-").replace("/", "-")
