"""`make plan`: what the stacks would make, what is public, what they cost and carry, and which rules they break.

With no engine, no account and no network.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra import capacity, report, review
from infra.difference import compare, graphs_of_revision
from infra.errors import InfraError
from infra.files import STACKS, configured, file_of, stack_files
from infra.layout import StackName, chosen
from infra.offline import graphs, lent
from infra.phases import PHASES, PhaseName
from infra.policy.finding import Finding
from infra.prices import load_prices
from infra.recording import Graph
from infra.settings import key, secrets_of

# Where nobody looks, lines are as long as they need to be, and the same on every machine.
_WIDTH = 160


@dataclass(frozen=True, slots=True)
class Plan:
    """`graphs` by stack, in the order in which they are made. `findings`: rules that they break; `over`: a sentence for
    each phase past its budget or short of replicas; `notes`: what the reader has to know of their settings; `carried`:
    what each phase's replicas carry, as far as it was measured."""

    graphs: Mapping[str, Graph]
    spent: review.Spending
    findings: Sequence[Finding]
    over: Sequence[str]
    notes: Sequence[str]
    carried: Mapping[PhaseName, Sequence[capacity.Line]]


def planned(phase: str, region: str, folder: Path = STACKS) -> Plan:
    """Of a phase, or of every stack that has a file. Raises InfraError for what the user has to mend first."""
    if region and not phase:
        raise InfraError(f"A region alone is no stack: say which phase is planned in '{region}' (PHASE=).")
    names = [str(stack) for stack in chosen(phase, region)] if phase else list(stack_files(folder))
    every = graphs(names, folder)
    found = {name: every[name] for name in names}
    spent = review.parts(found)
    carried = capacity.carried({phase: None for phase in (StackName.parse(name).phase for name in names) if phase})
    over = [*review.exceeded(spent), *capacity.short(carried)]
    told = [*notes(names, folder), *capacity.beyond(carried), *capacity.unmeasured(carried)]
    return Plan(found, spent, review.broken(found), over, told, carried)


def notes(names: Iterable[str], folder: Path = STACKS) -> Iterable[str]:
    """Whose settings were taken, and which secrets are still to be set."""
    for stack in map(StackName.parse, names):
        source = lent(stack, folder)
        if source != stack:
            yield f"'{stack}' has no file: planned with the settings of '{source}'."
        given = configured(file_of(source, folder))
        for field in secrets_of(stack):
            if key(field) not in given.encrypted:
                yield f"Before '{stack}' is made: `pulumi config set --secret {key(field)} --stack {stack}`."


def budget(spending: review.Spending) -> Table:
    """Each phase's parts against what it may cost."""
    caption = f"~ with estimates. List prices of {load_prices().dated} (infra/prices.yaml)."
    table = Table(title="USD a month", title_justify="left", caption=caption, caption_justify="left")
    for column in ("phase", "part", "USD", "budget"):
        table.add_column(column, justify="left" if column in ("phase", "part") else "right")
    for name, parts in spending.items():
        for part, spent in sorted(parts.items()):
            table.add_row(name, part, f"{'~' if spent.estimate else ''}{spent.usd:,.0f}", "")
        limit = PHASES[name].budget_usd_month
        table.add_row(name, "together", f"{review.together(parts):,.0f}", f"{limit:,}", end_section=True)
    return table


def load(carried: Mapping[PhaseName, Sequence[capacity.Line]]) -> Table:
    """What replicas carry against what the phase is to carry, in requests a second."""
    caption = f"Of one replica as measured, within its promised CPU ({capacity.FILE.name}, by `make capacity`)."
    table = Table(title="Carries", title_justify="left", caption=caption, caption_justify="left")
    for column in ("phase", "what", "replicas", "each /s", "carry /s", "wanted /s", ""):
        table.add_column(column, justify="left" if column in ("phase", "what", "") else "right")
    for name, lines in carried.items():
        for number, line in enumerate(lines, 1):
            figures = (f"{figure:,.3g}" for figure in (line.each, line.carried, line.wanted))
            verdict = "enough" if line.enough else "[red]short[/]"
            what = f"{line.what}, {line.headroom}x" if line.headroom > 1 else line.what
            table.add_row(
                name, what, f"{line.replicas} {line.who}", *figures, verdict, end_section=number == len(lines)
            )
        if not lines:
            table.add_row(name, "not measured", *[""] * 5, end_section=True)
    return table


def complaints(found: Sequence[Finding]) -> Table:
    table = Table(title="Findings", title_justify="left")
    for column in ("stack", "rule", "resource", "what is wrong"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(one.stack, one.rule, report.short(one.urn), one.sentence)
    return table


def show(plan: Plan, console: Console, *, trees: bool) -> None:
    if trees:
        for graph in plan.graphs.values():
            console.print(report.tree(graph))
    console.print(report.summary(plan.graphs))
    console.print(budget(plan.spent))
    console.print(load(plan.carried))
    console.print(complaints(plan.findings) if plan.findings else "Every rule is kept.")
    for note in plan.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="infra.plan", description=__doc__)
    parser.add_argument("--phase", default="", help="poc, small, medium, multi-region or cluster-apps; all without it")
    parser.add_argument("--region", default="", help="another region than the phase's own")
    parser.add_argument("--out", type=Path, help="a folder for graph.json, manifests and the picture of each stack")
    parser.add_argument("--diff", default="", help="a revision of this repository: what has changed since, by stack")
    return parser


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 where a rule is broken, 2 for what the user has to mend."""
    given = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    try:
        plan = planned(given.phase, given.region)
        if given.out:
            report.write_all(plan.graphs, given.out)
        if given.diff:
            console.print(compare(graphs_of_revision(given.diff, list(plan.graphs)), plan.graphs))
            return 0
    except InfraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    show(plan, console, trees=bool(given.phase))
    for sentence in plan.over:
        print(f"error: {sentence}", file=sys.stderr)
    return 2 if plan.over else int(bool(plan.findings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
