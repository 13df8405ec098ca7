"""What the agents say of some customers, put together as one result each."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from app.packs.treatments.models import ResultState, Run
from app.packs.treatments.stages import Journey, Proposal, Recommended, SetAside, Spent

UNSPOKEN: Final = "No agent said anything about this customer."


@dataclass(frozen=True, slots=True)
class Decided:
    """`rows` are the fields of `Result`, one for each customer, without those that all of a run share."""

    rows: Sequence[dict[str, Any]]
    spent: Spent = field(default_factory=Spent)

    def __add__(self, other: "Decided") -> "Decided":
        mine, more = self.spent, other.spent
        spent = Spent(
            model_calls=mine.model_calls + more.model_calls,
            tokens=mine.tokens + more.tokens,
            cost_micros=mine.cost_micros + more.cost_micros,
            shared_answers=mine.shared_answers + more.shared_answers,
        )
        return Decided([*self.rows, *other.rows], spent)


def held_back(run: Run, customer_id: str) -> bool:
    """Whether the customer is of the run's control group: the same each time it is asked."""
    digest = hashlib.blake2b(f"{run.seed}:{customer_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) < run.control_share * 2**64


def control(run: Run, journey: Journey) -> dict[str, Any]:
    reason = f"Held back for the comparison: {100 * run.control_share:.3g}% of the customers are."
    return _row(journey.customer_id, ResultState.CONTROL, reason, journey)


def without_options(journey: Journey) -> dict[str, Any]:
    """The catalogue's rules allow the customer nothing."""
    refused = "; ".join(f"{name}: {why}" for name, why in journey.refused.items())
    return _row(journey.customer_id, ResultState.NONE, f"No treatment is allowed. {refused}".strip(), journey)


def recommended(journey: Journey, answer: Recommended) -> dict[str, Any]:
    if not answer.proposals:
        row = _row(journey.customer_id, ResultState.NONE, "No treatment is worth its cost for this customer.", journey)
    else:
        best = answer.proposals[0]
        row = _row(journey.customer_id, ResultState.PROPOSED, best.reason, journey)
        row["options"] = [as_option(proposal) for proposal in answer.proposals]
        row["net_micros"] = best.net_micros
    row["answer_id"] = answer.answer_id or None
    return row


def set_aside(about: SetAside, journey: Journey | None = None) -> dict[str, Any]:
    return _row(about.customer_id, ResultState.SET_ASIDE, f"{about.stage}: {about.reason}"[:1000], journey)


def unspoken(ids: Iterable[str], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Customers whom no agent spoke of: they are set aside too, rather than lost."""
    spoken = {row["customer_id"] for row in rows}
    return [set_aside(SetAside(one, "run", UNSPOKEN)) for one in ids if one not in spoken]


def as_option(proposal: Proposal) -> dict[str, Any]:
    """A proposal as it is kept in `Result.options`."""
    return {
        "treatment": proposal.treatment,
        "chance": proposal.chance,
        "value_micros": proposal.value_micros,
        "cost_micros": proposal.cost_micros,
        "reason": proposal.reason,
    }


def _row(customer_id: str, state: ResultState, reason: str, journey: Journey | None) -> dict[str, Any]:
    return {
        "customer_id": customer_id,
        "state": state,
        "reason": reason,
        "fair_group": journey.fair_group if journey else "",
        "fingerprint": journey.fingerprint if journey else "",
        "seen": seen(journey) if journey else {},
        "treatment": "",
        "net_micros": 0,
        "options": [],
        "answer_id": None,
        "allocation_id": None,
    }


def seen(journey: Journey) -> dict[str, Any]:
    """What the decision rests on, as it was then."""
    return {**journey.seen, "features": journey.features, "traits": journey.traits, "refused": journey.refused}
