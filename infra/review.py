"""Whether stacks may be made as they are planned: every rule kept, every phase within its budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from infra.cost import monthly
from infra.layout import StackName
from infra.phases import PHASES, PhaseName
from infra.policy.finding import Finding
from infra.policy.rules import findings
from infra.recording import Graph

_LARGEST: Final = 3


@dataclass(frozen=True, slots=True)
class Spent:
    """Of one part of a phase. `estimate`: a price or an amount in it is not a list's."""

    usd: float
    estimate: bool


Spending = Mapping[PhaseName, Mapping[str, Spent]]


def broken(graphs: Mapping[str, Graph]) -> Sequence[Finding]:
    """What the rules say against the stacks, in order."""
    return sorted(finding for graph in graphs.values() for finding in findings(graph))


def parts(graphs: Mapping[str, Graph]) -> Spending:
    """A month of each phase that has a budget, by part. A phase is only what is planned of it."""
    found: dict[PhaseName, dict[str, Spent]] = {}
    for stack, graph in graphs.items():
        phase = StackName.parse(stack).phase
        for line in monthly(graph) if phase else ():
            assert phase is not None
            of = found.setdefault(phase, {})
            before = of.get(line.part, Spent(0.0, estimate=False))
            of[line.part] = Spent(before.usd + line.usd_month, before.estimate or line.estimate)
    return found


def together(by_part: Mapping[str, Spent]) -> float:
    return sum(spent.usd for spent in by_part.values())


def exceeded(spending: Spending) -> Sequence[str]:
    """A sentence for each phase that would cost more than its budget, with what costs the most."""
    return [_sentence(phase, by_part) for phase, by_part in spending.items() if _over(phase, by_part)]


def _over(phase: PhaseName, by_part: Mapping[str, Spent]) -> bool:
    return together(by_part) > PHASES[phase].budget_usd_month


def _sentence(phase: PhaseName, by_part: Mapping[str, Spent]) -> str:
    largest = sorted(by_part.items(), key=lambda item: -item[1].usd)[:_LARGEST]
    shown = ", ".join(f"{part} {spent.usd:,.0f}" for part, spent in largest)
    return (
        f"The phase '{phase}' would cost {together(by_part):,.0f} USD a month and its budget is "
        f"{PHASES[phase].budget_usd_month:,}: the largest parts are {shown}. Take smaller sizes, or raise the budget, "
        "in infra/phases.py."
    )
