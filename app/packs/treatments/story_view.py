"""A customer's story as the terminal tells it."""

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table

from app.packs.treatments.schemas_runs import ResultOut
from app.packs.treatments.schemas_story import AllocationTold, AnswerTold, DecisionTold, StoryOut


def story_told(story: StoryOut) -> RenderableType:
    parts: list[RenderableType] = [_person(story)]
    parts += [_decision(decision) for decision in story.decisions]
    if not story.decisions:
        parts.append("Nothing was decided about this customer yet.")
    elif story.decisions_total > len(story.decisions):
        parts.append(f"{story.decisions_total - len(story.decisions)} older decisions are not shown.")
    if story.reservations:
        parts.append(_reservations(story))
    if story.outcomes:
        parts.append(_outcomes(story))
    return Group(*parts)


def _person(story: StoryOut) -> str:
    group = f", group {story.fair_group}" if story.fair_group else ""
    segment = f", segment {story.segment}" if story.segment else ""
    return (
        f"{story.external_id} ({story.customer_id}), known since {story.known_since:%Y-%m-%d}, worth "
        f"{story.worth_usd:,.2f} USD{segment}{group}. Decisions: {story.decisions_total}."
    )


def _decision(told: DecisionTold) -> Panel:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _lines(told):
        table.add_row(name, text)
    run = told.run
    return Panel(table, title=f"{run.id}, {run.created_at:%Y-%m-%d %H:%M} UTC", title_align="left")


def _lines(told: DecisionTold) -> Iterator[tuple[str, str]]:
    run, result = told.run, told.result
    treatment = f": {result.treatment}" if result.treatment else ""
    yield "Decision", f"{result.state}{treatment}, {result.net_usd:,.2f} USD net expected"
    yield "Why", result.reason
    if told.queue_position is not None:
        yield "Queue", f"place {told.queue_position}"
    yield (
        "Run",
        (
            f"{run.state}, by {run.created_by}, catalogue version {run.catalogue_version}, histories up to "
            f"{run.as_of:%Y-%m-%d %H:%M} UTC, {100 * run.control_share:.3g}% held back (seed {run.seed})"
        ),
    )
    yield from _seen(result)
    for option in result.options:
        yield (
            f"Option {option.treatment}",
            (
                f"{option.chance:.1%} to succeed, worth {option.value_usd:,.2f} USD, costs {option.cost_usd:,.2f} USD: "
                f"{option.reason}"
            ),
        )
    if told.answer is not None:
        yield from _answer(told.answer)
    if told.allocation is not None:
        yield from _allocation(told.allocation)


def _seen(result: ResultOut) -> Iterator[tuple[str, str]]:
    plain = {name: value for name, value in result.seen.items() if not isinstance(value, dict)}
    yield "Saw", _pairs(plain) or "nothing"
    for name in ("features", "traits", "refused"):
        if result.seen.get(name):
            yield name.capitalize(), _pairs(result.seen[name])
    if result.fingerprint:
        yield "Fingerprint", result.fingerprint


def _answer(answer: AnswerTold) -> Iterator[tuple[str, str]]:
    yield (
        "Model",
        (
            f"{answer.model} by {answer.provider}, prompt version {answer.prompt_version}, asked "
            f"{answer.asked_at:%Y-%m-%d %H:%M} UTC ({answer.id})"
        ),
    )
    yield "Profile", _pairs(answer.profile)
    yield "Proposed", "; ".join(_proposal(one) for one in answer.proposals) or "nothing"


def _proposal(one: Any) -> str:
    return _pairs(one) if isinstance(one, dict) else str(one)


def _allocation(made: AllocationTold) -> Iterator[tuple[str, str]]:
    feasible = "" if made.feasible else ", not feasible"
    yield (
        "Allocation",
        (
            f"number {made.number} for {made.day}, {made.method}{feasible}: worth {made.value_usd:,.2f} USD net; with "
            f"priorities {made.score_usd:,.2f} of at most {made.bound_usd:,.2f} (gap {made.gap:.2%}), "
            f"by {made.created_by}"
        ),
    )
    yield "Limits", _pairs(made.problem)


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_figure(value)}" for name, value in values.items())


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return f"({_pairs({name: one for name, one in value.items() if one is not None})})"
    if isinstance(value, list):
        return f"({', '.join(map(_figure, value))})"
    return str(value)


def _reservations(story: StoryOut) -> Table:
    table = Table(
        "Day", "Treatment", "State", "Cost, USD", "Expires", "Run", title="Reservations", title_justify="left"
    )
    for one in story.reservations:
        until = f"{one.expires_at:%Y-%m-%d %H:%M}"
        table.add_row(str(one.day), one.treatment, one.state, f"{one.cost_usd:.2f}", until, one.run_id or "")
    return table


def _outcomes(story: StoryOut) -> Table:
    table = Table("When", "Treatment", "Success", "Value, USD", "Run", title="What came of it", title_justify="left")
    for one in story.outcomes:
        came = "yes" if one.success else "no"
        treatment = one.treatment or "none"
        table.add_row(f"{one.at:%Y-%m-%d %H:%M}", treatment, came, f"{one.value_usd:.2f}", one.run_id or "")
    return table
