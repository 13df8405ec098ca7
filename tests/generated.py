"""Parts of the repo that are written from a source: `python -m tests.generated write|check`."""

import difflib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import get_args, get_origin

import yaml
from pydantic import SecretStr

from alerts import generate as alerts
from alerts import routes
from app.agent.prompt_lock import LOCK_FILE, write_lock
from app.agent.prompts import read_directory
from app.container import PACKS
from app.settings import PREFIX, Settings
from app.telemetry.metrics import CATALOGUE
from dashboards import generate as dashboards
from infra.phases import PHASES, Phase
from provisioning.src import generate as provisioning
from provisioning.src.files import ROOM as PROVISIONING
from runbooks.pages import read_page

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Section:
    """The part of a file between `<!-- name -->` and `<!-- /name -->`, written by `content`."""

    path: Path
    name: str
    content: Callable[[], str]

    def rewritten(self) -> str:
        """The file's text with the section as it should be. Raises SystemExit where the marks are missing."""
        begin, end = f"<!-- {self.name} -->\n", f"<!-- /{self.name} -->"
        before, opened, rest = self.path.read_text().partition(begin)
        _old, closed, after = rest.partition(end)
        if not (opened and closed):
            sys.exit(f"{self.path.relative_to(ROOT)} lacks the marks of its section '{self.name}'.")
        return f"{before}{begin}{self.content()}{end}{after}"


def phases() -> str:
    rows: list[tuple[str, Callable[[Phase], str]]] = [
        ("leads a month", lambda p: f"{p.load.leads_per_month:,}"),
        ("concurrent conversations, a region", lambda p: f"{p.load.concurrent_conversations:,}"),
        ("documents", lambda p: f"{p.load.documents:,}"),
        ("time to answer, p50 / p99", lambda p: f"{p.targets.answer_p50_s:g} s / {_seconds(p.targets.answer_p99_s)}"),
        ("failed requests in 30 days", lambda p: f"< {p.targets.failed_share:.1%}"),
        ("our own share, p99", lambda p: f"{p.targets.own_share_p99_s * 1000:g} ms"),
        ("budget, USD a month", lambda p: f"{p.budget_usd_month:,}"),
        ("headroom proven by load", lambda p: f"{p.headroom}x" if p.headroom else "–"),
        ("compute", lambda p: _fleet(p)),
        ("relational data", lambda p: p.stores.relational.value),
        ("cache", lambda p: p.stores.cache.value),
        ("vectors", lambda p: p.stores.vectors.value),
    ]
    lines = [f"| | {' | '.join(PHASES)} |", f"|---|{'---|' * len(PHASES)}"]
    lines += [f"| {title} | {' | '.join(map(show, PHASES.values()))} |" for title, show in rows]
    return "\n".join(lines) + "\n"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:g} s"


def _fleet(phase: Phase) -> str:
    fleet = phase.fleet
    regions = f" in {len(fleet.regions)} regions" if len(fleet.regions) > 1 else ""
    pods = f", {fleet.least}–{fleet.most} API pods" if fleet.most > 1 else ""
    return f"{fleet.compute.value}{regions}{pods}{', own GPU nodes' if fleet.gpu_nodes else ''}"


def settings() -> str:
    lines = ["| variable | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        lines.append(f"| `{PREFIX}{name.upper()}` | {_default(default)} | {_kind(field.annotation)} |")
    return "\n".join(lines) + "\n"


def _kind(annotation: object) -> str:
    """A setting's type in words; the members of a choice."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)] or [annotation]
    kind = annotation if get_origin(annotation) in (dict, frozenset) else kinds[0]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    words = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        Path: "path",
        SecretStr: "secret",
    }
    return words.get(kind) or {dict: "JSON", frozenset: "comma-separated"}[get_origin(kind)]


def _default(value: object) -> str:
    if value is None or value == {}:
        return "not set"
    if type(value).__name__ == "SecretStr":
        return "a development value"
    return f"`{','.join(sorted(value)) if isinstance(value, frozenset) else value}`"


def metrics() -> str:
    lines = ["| metric | kind | labels | |", "|---|---|---|---|"]
    lines += [f"| `{m.name}` | {m.kind} | {', '.join(m.label_names)} | {m.help} |" for m in CATALOGUE]
    return "\n".join(lines) + "\n"


def runbooks() -> str:
    """The alerts by team, those that page first, each with its page."""
    rows: dict[str, tuple[str, str]] = {}
    pages: set[str] = set()
    for text in alerts.committed().values():
        for group in yaml.safe_load(text)["groups"]:
            for rule in (rule for rule in group["rules"] if "alert" in rule):
                rows[rule["alert"]] = (rule["labels"]["team"], _linked(rule["annotations"]["dashboard_url"]))
                if rule["labels"]["severity"] == "page":
                    pages.add(rule["alert"])
    order = sorted(rows, key=lambda name: (name not in pages, rows[name], name))
    lines = ["| alert | pages | team | dashboard |", "|---|---|---|---|"]
    lines += [f"| [{n}](alerts/{n}.md) | {'yes' if n in pages else ''} | {rows[n][0]} | {rows[n][1]} |" for n in order]
    return "\n".join(lines) + "\n"


def procedures() -> str:
    """What is done by hand, with what its last drill measured."""
    lines = ["| procedure | last drilled | detected in | recovered in | lost |", "|---|---|---|---|---|"]
    for path in sorted((ROOT / "runbooks" / "procedures").glob("*.md")):
        page = read_page(path)
        drilled = [part.strip() for part in page.last_drilled.split(",", 3)]
        measured = [part.removeprefix("detected in ").removeprefix("recovered in ") for part in drilled]
        measured[3:] = [part.removesuffix(" lost") for part in measured[3:]]
        cells = " | ".join([*measured, "", "", ""][:4])
        lines.append(f"| [{page.title}](procedures/{path.name}) | {cells} |")
    return "\n".join(lines) + "\n"


def _linked(url: str) -> str:
    return f"`{url.rpartition('/')[2]}`"


SECTIONS = (
    Section(ROOT / "README.md", "phases", phases),
    Section(ROOT / "docs" / "settings.md", "settings", settings),
    Section(ROOT / "docs" / "metrics.md", "metrics", metrics),
    Section(ROOT / "runbooks" / "README.md", "runbooks", runbooks),
    Section(ROOT / "runbooks" / "README.md", "procedures", procedures),
)


@dataclass(frozen=True)
class Tree:
    """Whole files that sources write: all that `pattern` finds in a folder, and nothing else there."""

    folder: Path
    pattern: str
    content: Callable[[], Mapping[Path, str]]

    def write(self) -> None:
        """Also takes away what no source writes any more."""
        wanted = self.content()
        for path, text in wanted.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for path in self._present() - wanted.keys():
            path.unlink()

    def stale(self) -> Iterator[str]:
        wanted = self.content()
        for path in sorted(self._present() | wanted.keys()):
            yield _difference(path, path.read_text() if path.exists() else "", wanted.get(path, ""))

    def _present(self) -> set[Path]:
        return set(self.folder.glob(self.pattern))


TREES = (
    Tree(alerts.RULES, "*/*.yaml", alerts.committed),
    Tree(routes.FOLDER, "*.yaml", routes.committed),
    Tree(dashboards.OUT, "*.json", dashboards.committed),
    Tree(PROVISIONING, "*/*/**/*.yaml", provisioning.committed),
)


def link_boards() -> None:
    """Makes the links of Grafana's folders of boards, and takes away those that lead to what is not used."""
    wanted = provisioning.links()
    for path in board_links().keys() - wanted.keys():
        path.unlink()
    for path, target in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(os.path.relpath(target, path.parent))


def board_links() -> dict[Path, Path]:
    """The links as they are."""
    found = PROVISIONING.glob("grafana/*/boards/*.json")
    return {path: (path.parent / os.readlink(path)).resolve() for path in found if path.is_symlink()}


def unlinked_boards() -> Iterator[str]:
    if board_links() != provisioning.links():
        yield "The links of provisioning/grafana/*/boards are not to the boards of their phases.\n"


def _difference(path: Path, now: str, wanted: str) -> str:
    name = str(path.relative_to(ROOT))
    return "".join(difflib.unified_diff(now.splitlines(True), wanted.splitlines(True), name, f"{name} (source)"))


def stale() -> Iterator[str]:
    """A diff for each section and each file that is not as its source says."""
    for section in SECTIONS:
        yield _difference(section.path, section.path.read_text(), section.rewritten())
    for tree in TREES:
        yield from tree.stale()


def lock_prompts() -> None:
    """Adds new prompt versions to the packs' lock files."""
    for directory in (pack.prompts for pack in PACKS if pack.prompts is not None):
        write_lock(directory, {(p.name, p.version): p.digest for p in read_directory(directory)})


def unlocked_prompts() -> Iterator[str]:
    for directory in (pack.prompts for pack in PACKS if pack.prompts is not None):
        before = (directory / LOCK_FILE).read_bytes() if (directory / LOCK_FILE).exists() else b""
        lock_prompts()
        if (directory / LOCK_FILE).read_bytes() != before:
            (directory / LOCK_FILE).write_bytes(before)
            yield f"{directory.relative_to(ROOT)}/{LOCK_FILE} lacks a version.\n"


def main(mode: str) -> None:
    if mode == "write":
        for section in SECTIONS:
            section.path.write_text(section.rewritten())
        for tree in TREES:
            tree.write()
        link_boards()
        lock_prompts()
        return
    problems = [problem for problem in (*stale(), *unlinked_boards(), *unlocked_prompts()) if problem]
    if problems:
        sys.exit("".join(problems) + "Run `make generated` and commit what it writes.")
    print("Generated files are as their sources say.")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "check")
