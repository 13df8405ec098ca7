"""What a run of the gate found, in words."""

from collections.abc import Sequence
from typing import Final

from dashboards.render.units import humane
from loadtest.results import Check, GateResult, Outcome

_UNITS: Final = {"s": "s", "%": "percent"}
"""Units of checks as Grafana calls them."""


def sentence(result: GateResult) -> str:
    """The verdict: what passed at which load, or how much was missed and the first of it."""
    checks = [check for scenario in result.scenarios for check in scenario.checks]
    held = [check for check in checks if check.outcome is not Outcome.NOT_JUDGED]
    open_ones = len(checks) - len(held)
    rest = f"; {counted(open_ones, 'threshold')} could not be judged" if open_ones else ""
    ended = next((f"{each.name} was ended early: {each.aborted}" for each in result.scenarios if each.aborted), "")
    if result.failures:
        return f"Failed: {result.phase} {_missed(result, len(held))}; {ended or result.failures[0]}{rest}."
    if not held and result.compared:
        return f"Passed: {result.phase} takes no more than before in {counted(len(result.compared), 'figure')}."
    if not held:
        return f"Not judged: no threshold of {result.phase} was measured{'; ' if ended else ''}{ended}."
    return f"Passed: {_carried(result)} within all {len(held)} thresholds{rest}."


def judged(result: GateResult) -> bool:
    """Whether there was anything that could have failed."""
    checks = [check for each in result.scenarios for check in each.checks]
    return bool(result.compared) or any(check.outcome is not Outcome.NOT_JUDGED for check in checks)


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _missed(result: GateResult, judged: int) -> str:
    missed = sum(check.outcome is Outcome.FAILED for each in result.scenarios for check in each.checks)
    worse = sum(each.worse for each in result.compared)
    parts = [f"missed {missed} of {counted(judged, 'threshold')}"] if missed else []
    parts += [f"takes more than before in {counted(worse, 'figure')}"] if worse else []
    return " and ".join(parts)


def _carried(result: GateResult) -> str:
    """Of the scenarios that were judged: what is beyond the phase's promise is measured only."""
    proven = [each for each in result.scenarios if any(c.outcome is not Outcome.NOT_JUDGED for c in each.checks)]
    asked = sum(endpoint.asked for each in proven for endpoint in each.endpoints)
    failed = sum(endpoint.failed for each in proven for endpoint in each.endpoints)
    most = max(each.factor for each in proven)
    share = "its load" if result.replicas == 1 else f"1/{result.replicas} of its load"
    over = f", up to {most:g} times over" if most > 1 else ""
    share_failed = humane(failed / asked if asked else 0.0, "percentunit")
    return f"one replica of {result.phase} carried {share}{over} ({counted(asked, 'request')}, {share_failed} failed),"


def shown(value: float | None, unit: str) -> str:
    """A figure of a check or a comparison, with its unit."""
    if value is None:
        return "nothing"
    return humane(value, _UNITS.get(unit, f"suffix:{unit}"))


def outcome(check: Check) -> str:
    """One line of a threshold: what was seen, and what is allowed."""
    return f"{shown(check.seen, check.unit)}, limit {shown(check.limit, check.unit)}"


def facts(result: GateResult) -> Sequence[tuple[str, str]]:
    """Where and how it ran."""
    return (
        ("revision", result.revision),
        ("machine", result.machine),
        ("replica", f"1 of {result.replicas}"),
        *((name, backend) for name, backend in result.backends.items()),
    )
