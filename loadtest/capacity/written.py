"""What was found, told: `infra/capacity.json`, tables."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from infra.capacity import FILE, Measured, lines, load
from infra.phases import Phase
from loadtest.capacity.finding import Found, cores, rate
from loadtest.capacity.growth import Axis, Row
from loadtest.capacity.judge import Step, judge


def write(phase: Phase, measured: Measured, file: Path = FILE) -> None:
    """The phase's figures beside the others'. Raises InfraError where the file is none."""
    every = {**(load(file) if file.exists() else {}), phase.name: measured}
    file.write_text(json.dumps({name: asdict(one) for name, one in sorted(every.items())}, indent=2) + "\n")


def steps_table(phase: Phase, steps: Iterable[Step]) -> Table:
    """A line a step, by rate."""
    table = Table(title=f"One replica of phase {phase.name}", title_justify="left")
    for column in ("questions /s", "x share", "asked", "p50 ms", "p95 ms", "p99 ms", "own > limit", "API cores"):
        table.add_column(column, justify="right")
    table.add_column("verdict", overflow="fold")
    for step in sorted(steps, key=lambda one: one.result.factor):
        table.add_row(*_figures(phase, step), _verdict(phase, step))
    return table


def _figures(phase: Phase, step: Step) -> Sequence[str]:
    questions, factor = step.result.questions, step.result.factor
    answer = questions.answer if questions else None
    times = [None, None, None] if answer is None else [answer.p50_s, answer.p95_s, answer.p99_s]
    return (
        f"{rate(phase, factor):.1f}",
        f"{factor:.2f}",
        f"{questions.asked:,}" if questions else "0",
        *("" if time is None else f"{time * 1e3:,.0f}" for time in times),
        f"{step.own_slow / step.own:.1%}" if step.own else "",
        f"{cores(step, 'api'):.2f}",
    )


def _verdict(phase: Phase, step: Step) -> str:
    look = judge(step, phase)
    return "within" if look.within else f"out{'' if look.sure else ', not surely'}: {look.why}"


def verdict(phase: Phase, found: Found, measured: Measured) -> Sequence[str]:
    """What was found, then what follows for the phase's replicas; each a sentence."""
    if not found.edge.low:
        first = f"One replica of '{phase.name}' kept its targets at no rate that was tried: {found.left}."
    else:
        above = (
            f"and left them at {rate(phase, found.edge.high):.1f}: {found.left}" if found.edge.high else "at the most"
        )
        first = (
            f"One replica of '{phase.name}' carries {measured.questions_s:g} questions and {measured.leads_s:g} leads "
            f"a second with {measured.api_cores:.2f} cores of CPU, {above}."
        )
    every = list(lines(phase, measured))
    kept = [
        f"{each.replicas} {each.who} carry {each.carried:,.3g} {each.what} a second of {each.wanted:,.3g}."
        for each in every
        if each.enough
    ]
    beyond = [measured.beyond] if measured.beyond else []
    return (first, *kept, *(each.sentence for each in every if not each.enough), *beyond)


def growth_tables(rows: Sequence[Row]) -> Iterable[Table]:
    """A table an axis: figures of one question at each amount, and how they grow."""
    for axis in Axis:
        of = [row for row in rows if row.axis is axis]
        table = Table(title=f"What a question costs by {axis}", title_justify="left")
        table.add_column("figure")
        for amount in of[0].values:
            table.add_column(f"{amount:,}", justify="right")
        table.add_column("growth")
        for row in of:
            table.add_row(row.named, *(f"{value:,.3g}" for value in row.values.values()), row.told)
        yield table


def growth_json(rows: Sequence[Row]) -> Mapping[str, object]:
    """The same for machines: by axis and figure, the value at each amount and the growth in words."""
    found: dict[str, dict[str, object]] = {}
    for row in rows:
        values = {f"{amount:g}": round(value, 4) for amount, value in row.values.items()}
        found.setdefault(row.axis, {})[row.named] = {"at": values, "growth": row.told}
    return found
