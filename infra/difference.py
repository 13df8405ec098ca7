"""What a change would do to every stack: the plan of this checkout beside that of another revision."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from infra.errors import InfraError
from infra.recording import Graph, Resource
from infra.report import short

ROOT: Final = Path(__file__).parent.parent
_MOST_KEYS: Final = 6
# Run in the other revision's folder with this interpreter: its own programs, its own phases.
_RECORD: Final = (
    "import json, sys; from dataclasses import asdict; "
    "from infra.files import stack_files; from infra.offline import graphs; "
    "known = [name for name in sys.argv[1:] if name in stack_files()]; "
    "print(json.dumps({name: asdict(graph) for name, graph in graphs(known).items() if name in known}))"
)


def graphs_of_revision(revision: str, stacks: Sequence[str]) -> Mapping[str, Graph]:
    """Of those of the stacks that the revision has.

    Raises InfraError for a revision that is not known, or whose programs do not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        _extract(revision, Path(folder))
        ran = subprocess.run(  # noqa: S603 - this interpreter, our own program
            [sys.executable, "-c", _RECORD, *stacks], cwd=folder, capture_output=True, text=True, check=False
        )
        if ran.returncode:
            reason = ran.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise InfraError(f"The programs of '{revision}' do not run: {reason[0]}")
        return {name: _graph(found) for name, found in json.loads(ran.stdout).items()}


def _extract(revision: str, folder: Path) -> None:
    """The whole revision: programs also read what they mount (rules, dashboards)."""
    git = shutil.which("git") or "git"
    archive = subprocess.run(  # noqa: S603 - git, no shell; a revision cannot be taken for an option after the marker
        [git, "archive", "--format=tar", "--end-of-options", revision], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        raise InfraError(f"There is no revision '{revision}' in this repository: name a branch, a tag or a commit.")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter=_within)  # noqa: S202 - filtered, and from our own repository
    if not (folder / "infra" / "offline.py").is_file():
        raise InfraError(f"The revision '{revision}' is older than the plan: there is nothing to compare with.")


def _within(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Without links that lead out of the revision."""
    try:
        return tarfile.data_filter(member, folder)
    except tarfile.FilterError:
        return None


def _graph(found: Mapping[str, Any]) -> Graph:
    """Of another revision, whose record may say more of a resource than ours."""
    known = {field.name for field in fields(Resource)}
    resources = [
        Resource(**{key: value for key, value in resource.items() if key in known}) for resource in found["resources"]
    ]
    return Graph(found["stack"], resources, found["outputs"])


def compare(before: Mapping[str, Graph], now: Mapping[str, Graph]) -> Table:
    """A line for each resource that would be made, changed or deleted."""
    table = Table(title="What this change would do", title_justify="left")
    for column in ("stack", "", "resource", "what changes"):
        table.add_column(column, overflow="fold")
    for stack in sorted(before.keys() | now.keys()):
        for sign, urn, what in changes(before.get(stack), now.get(stack)):
            table.add_row(stack, sign, short(urn), what)
    return table


def changes(before: Graph | None, now: Graph | None) -> Sequence[tuple[str, str, str]]:
    """(`+`, `~` or `-`; URN; the inputs that differ), in order of URN. What has an alias is changed, not made anew."""
    old = {resource.urn: resource for resource in before.resources} if before else {}
    new = {resource.urn: resource for resource in now.resources} if now else {}
    renamed = successors(old, new.values())
    made = [("+", urn, "") for urn in new.keys() - old.keys() - {*renamed.values()}]
    gone = [
        ("-", urn, "protected: the engine refuses" if old[urn].protect else "")
        for urn in old.keys() - new.keys() - renamed.keys()
    ]
    same = [("~", urn, _differing(old[urn], new[urn])) for urn in old.keys() & new.keys()]
    moved = [("~", new_urn, _moved(old[urn], new[new_urn])) for urn, new_urn in renamed.items()]
    lines = [*made, *gone, *moved, *(line for line in same if line[2])]
    return sorted(lines, key=lambda line: (line[1], line[0]))


def successors(urns: Iterable[str], now: Iterable[Resource]) -> Mapping[str, str]:
    """Of URNs that are no more: the URN that follows each by an alias."""
    resources = list(now)
    standing = {resource.urn for resource in resources}
    by_alias = {alias: resource.urn for resource in resources for alias in resource.aliases}
    return {urn: by_alias[urn] for urn in urns if urn not in standing and urn in by_alias}


def _moved(old: Resource, new: Resource) -> str:
    changed = _differing(old, new)
    return f"was {short(old.urn)}" + (f"; {changed}" if changed else "")


def _differing(old: Resource, new: Resource) -> str:
    keys = sorted(key for key in old.inputs.keys() | new.inputs.keys() if old.inputs.get(key) != new.inputs.get(key))
    if old.protect != new.protect:
        keys.append("protect")
    more = f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
    return ", ".join(keys[:_MOST_KEYS]) + more
