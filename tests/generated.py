"""Parts of the repo that are written from a source: `python -m tests.generated write|check`."""

import difflib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import get_args, get_origin

from pydantic import SecretStr

from app.agent.prompt_lock import LOCK_FILE, write_lock
from app.agent.prompts import read_directory
from app.container import PACKS
from app.settings import PREFIX, Settings
from app.telemetry.metrics import CATALOGUE
from infra.phases import PHASES, Phase

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
    regions = f" in {fleet.regions} regions" if fleet.regions > 1 else ""
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


SECTIONS = (
    Section(ROOT / "README.md", "phases", phases),
    Section(ROOT / "docs" / "settings.md", "settings", settings),
    Section(ROOT / "docs" / "metrics.md", "metrics", metrics),
)


def stale() -> Iterator[str]:
    """A diff for each section that is not as its source says."""
    for section in SECTIONS:
        now, wanted = section.path.read_text(), section.rewritten()
        if now != wanted:
            name = str(section.path.relative_to(ROOT))
            yield "".join(difflib.unified_diff(now.splitlines(True), wanted.splitlines(True), name, f"{name} (source)"))


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
        lock_prompts()
        return
    problems = [*stale(), *unlocked_prompts()]
    if problems:
        sys.exit("".join(problems) + "Run `make generated` and commit what it writes.")
    print("Generated files are as their sources say.")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "check")
