"""What people outside wrote and the model will read, searched for orders to the agent."""

import asyncio
from collections.abc import Sequence

from app.governance.injection import suspicious
from app.packs.leads.facts import LeadFacts, Turn
from app.packs.leads.models import Direction

# A longer text takes the search milliseconds: not on the event loop.
SHORT = 4_000


async def orders_in(message: str, lead: LeadFacts, history: Sequence[Turn]) -> tuple[str, ...]:
    """As `orders_to_the_agent`, beside the event loop where there is much to read."""
    size = len(message) + sum(len(turn.body) for turn in history) + sum(map(len, _record(lead)))
    if size <= SHORT:
        return orders_to_the_agent(message, lead, history)
    return await asyncio.to_thread(orders_to_the_agent, message, lead, history)


def orders_to_the_agent(message: str, lead: LeadFacts, history: Sequence[Turn] = ()) -> tuple[str, ...]:
    """Names of the injection rules that fit the message, the lead's record or an earlier message of the lead.

    A web form fills the record as freely as the message, and an order that was refused once stays in the history.
    """
    earlier = [turn.body for turn in history if turn.direction == Direction.INBOUND]
    texts = (message, "; ".join(_record(lead)), *earlier)
    return tuple(dict.fromkeys(finding.rule for text in texts for finding in suspicious(text)))


def _record(lead: LeadFacts) -> list[str]:
    """The parts of the record that are free text."""
    attributes = [f"{name}: {value}" for name, value in lead.attributes.items() if isinstance(value, str)]
    return [part for part in (lead.name, lead.company, lead.country, *attributes) if part]
