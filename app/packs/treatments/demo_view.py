"""The demo's figures as a table, a column for each run."""

from collections.abc import Callable, Sequence
from typing import Final

from rich.table import Table

from app.governance.stats import Interval
from app.packs.treatments.demo_figures import DRAWS, Figures, FloorKept, Group
from app.packs.treatments.run_view import duration
from app.packs.treatments.schemas_allocation import AllocationOut

MEBIBYTE: Final = 1 << 20
LIMITS: Final = (
    "Every customer of this file was called, once each, and nothing else was ever done: it shows whom a call wins, but "
    "neither what letters, messages or offers would bring nor who would have come without a call."
)
Line = Callable[[Figures], str]


def figures_table(figures: Sequence[Figures]) -> Table:
    table = Table(title="Treatments: what came of it", title_justify="left")
    table.add_column("")
    for one in figures:
        table.add_column(f"{one.customers:,} customers", justify="right", overflow="fold")
    for name, line in (*_WORK, *_ALLOCATION, *_JUDGED):
        table.add_row(name, *(line(one) for one in figures))
    return table


def compared(large: Figures, small: Figures, most: float) -> str:
    """Both peaks, and whether memory stays as good as flat."""
    ratio = large.peak / small.peak if small.peak else float("inf")
    held = "within" if ratio <= most else "NOT within"
    return (
        f"Peak memory: {_memory(large.peak)} with {large.customers:,} customers, {_memory(small.peak)} with "
        f"{small.customers:,}: {ratio:.3f} times as much, {held} the {most - 1:.0%} aimed at."
    )


def _memory(size: int) -> str:
    return f"{size / MEBIBYTE:,.1f} MiB"


def _once(found: Figures) -> str:
    if found.exactly_once:
        return f"yes: {found.rows:,} results of {found.different:,} customers, the same in the file"
    return (
        f"NO: {found.rows:,} results of {found.different:,} customers, in the file {found.exported:,} of "
        f"{found.exported_different:,}"
    )


def _states(found: Figures) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in sorted(found.states.items()))


def _capacity(found: Figures) -> str:
    limits = found.allocation.constraints.get("capacity", {})
    usage = found.allocation.usage
    return ", ".join(
        f"{name} {used:,}{f' of {limits[name]:,}' if name in limits else ''}" for name, used in usage.items()
    )


def _budget(found: Figures) -> str:
    micros = found.allocation.constraints.get("budget_micros")
    spent = f"{found.allocation.spent_usd:,.2f} USD"
    return spent if micros is None else f"{spent} of {micros / 1_000_000:,.2f}"


def _method(allocation: AllocationOut) -> str:
    how = "proven the best" if allocation.optimal else "not proven the best"
    return f"{allocation.method}, {how}, in {allocation.seconds or 0:.2f} s"


def _floors(found: Figures) -> str:
    return "; ".join(map(_floor, found.floors)) or "none asked for"


def _floor(kept: FloorKept) -> str:
    said = "kept" if kept.got >= kept.needed else "NOT kept"
    what = kept.treatment or "anything"
    return f"{said}: {kept.got} of {kept.candidates:,} {kept.group} got {what}, {kept.needed} needed"


def _group(group: Group) -> str:
    if group.rate is None or group.value_usd is None:
        return "nobody"
    return (
        f"{group.rate:.1%} ({group.successes:,} of {group.customers:,}; 95 %: {_interval(group.interval95)}), "
        f"{group.value_usd:.2f} USD each"
    )


def _interval(interval: Interval | None) -> str:
    return "unknown" if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}"


def _more(found: Figures) -> str:
    more = found.judgement.more
    return "unknown" if more is None else f"{more:+.1%} (95 %: {_interval(found.judgement.more95)})"


_WORK: Final[tuple[tuple[str, Line], ...]] = (
    ("Each customer exactly once", _once),
    ("Results", _states),
    ("Workers killed with SIGKILL", lambda found: f"{found.kills}, {found.stopped_s:.1f} s until the next one worked"),
    ("Customers a second", lambda found: f"{found.customers_a_second:,.0f} at work"),
    ("Time", lambda found: f"{duration(found.work_s)} at work, {duration(found.wall_s)} with stops and allocation"),
    ("Peak memory of the workers", lambda found: ", ".join(map(_memory, found.peaks))),
    ("Model calls", lambda found: f"{found.run.model_calls:,}; {found.run.shared_answers:,} answers shared"),
    ("Tokens, cost", lambda found: f"{found.run.tokens:,}, {found.run.cost_usd:.4f} USD"),
)
_ALLOCATION: Final[tuple[tuple[str, Line], ...]] = (
    ("Allocation", lambda found: _method(found.allocation)),
    ("Expected net value", lambda found: f"{found.allocation.value_usd:,.2f} USD"),
    (
        "With priorities, and its bound",
        lambda found: f"{found.allocation.score_usd:,.2f} of at most {found.allocation.bound_usd:,.2f}",
    ),
    ("Gap", lambda found: f"{found.allocation.gap:.4%}"),
    ("Given, of what there is", _capacity),
    ("Spent, of the budget", _budget),
    ("Fairness floors", _floors),
    ("Queue", lambda found: f"{found.queue:,} wait"),
)
_JUDGED: Final[tuple[tuple[str, Line], ...]] = (
    ("Deposits: all judged", lambda found: _group(found.judgement.everyone)),
    ("Those the run gives a call", lambda found: _group(found.judgement.called)),
    ("As many in the order of calls", lambda found: _group(found.judgement.first)),
    ("As many at random", lambda found: f"{_interval(found.judgement.random95)} ({DRAWS:,} draws, middle 95 %)"),
    ("Called, less the other judged", _more),
)
