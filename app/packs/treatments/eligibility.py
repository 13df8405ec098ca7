"""Which treatments a customer may have by the catalogue's rules, and why not the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.packs.treatments.catalogue import CatalogueIn, Condition, Treatment
from app.packs.treatments.stages import History


@dataclass(frozen=True, slots=True)
class Eligibility:
    """`allowed` in the catalogue's order; `refused` gives the first rule that stands against each of the others."""

    allowed: list[str]
    refused: dict[str, str]


def eligibility(catalogue: CatalogueIn, history: History, as_of: datetime) -> Eligibility:
    allowed: list[str] = []
    refused: dict[str, str] = {}
    for treatment in catalogue.treatments:
        why = refusal(treatment, history, as_of)
        if why is None:
            allowed.append(treatment.name)
        else:
            refused[treatment.name] = why
    return Eligibility(allowed, refused)


def refusal(treatment: Treatment, history: History, as_of: datetime) -> str | None:
    """Why the customer may not have it: a clause in plain words; None where they may."""
    if treatment.segments and history.segment not in treatment.segments:
        said = f"'{history.segment}'" if history.segment else "no segment"
        return f"it is for the segment {' or '.join(treatment.segments)}, the customer is in {said}"
    for condition in treatment.conditions:
        why = _unmet(condition, history.attributes)
        if why is not None:
            return why
    return _too_soon(treatment, history.contacts.get(treatment.name), as_of)


def _unmet(condition: Condition, attributes: Mapping[str, Any]) -> str | None:
    if condition.attribute not in attributes:
        return f"it needs {_wanted(condition)}, which is not known of the customer"
    value = attributes[condition.attribute]
    # True is 1 to Python, not to whoever wrote the rule.
    if any(type(value) is type(one) and value == one for one in condition.any_of) or _in_range(condition, value):
        return None
    return f"it needs {_wanted(condition)}, the customer's is {_said(value)}"


def _in_range(condition: Condition, value: Any) -> bool:
    if condition.at_least is None and condition.at_most is None:
        return False
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    above = condition.at_least is None or value >= condition.at_least
    return above and (condition.at_most is None or value <= condition.at_most)


def _wanted(condition: Condition) -> str:
    ways = [_said(one) for one in condition.any_of]
    if condition.at_least is not None and condition.at_most is not None:
        ways.append(f"{condition.at_least:g} to {condition.at_most:g}")
    elif condition.at_least is not None:
        ways.append(f"at least {condition.at_least:g}")
    elif condition.at_most is not None:
        ways.append(f"at most {condition.at_most:g}")
    return f"'{condition.attribute}' {' or '.join(ways)}"


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else f"'{str(value)[:60]}'"


def _too_soon(treatment: Treatment, last: datetime | None, as_of: datetime) -> str | None:
    """One that is booked for a day to come stands against another before it, too."""
    if last is None or not treatment.cooldown_days:
        return None
    if abs(as_of - last) >= timedelta(days=treatment.cooldown_days):
        return None
    had = "had it" if last <= as_of else "has it booked"
    return f"the customer {had} on {last:%Y-%m-%d}, and {treatment.cooldown_days} days must lie between"
