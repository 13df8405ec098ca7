"""Why a customer got a treatment, or waits: in words, with the figures of the allocation."""

from collections.abc import Mapping, Sequence

from app.packs.treatments.models import Allocation
from app.packs.treatments.options import Option, usd


class Words:
    """Of one allocation: `problem` has its limits, `report` how many wanted what."""

    def __init__(self, allocation: Allocation) -> None:
        self._day = allocation.day
        self._capacity: Mapping[str, int] = allocation.problem["capacity"]
        self._per_day: Mapping[str, int] = allocation.problem["per_day"]
        self._budget: int | None = allocation.problem["budget_micros"]
        self._candidates: Mapping[str, int] = allocation.report["candidates"]
        self._usage: Mapping[str, int] = allocation.report["usage"]
        self._spent: int = allocation.report["spent_micros"]

    def allocated(self, has: Sequence[str], kept: Sequence[Option]) -> str:
        worth = usd(sum(option.net_micros for option in kept))
        return f"allocated: worth {worth} net; {'; '.join(self.scarcity(name) for name in has)}"

    def waits(self, options: Sequence[Option], refused: Mapping[str, str]) -> str:
        """For one who got nothing."""
        best = max(options, key=lambda option: option.net_micros, default=None)
        if best is None or best.net_micros <= 0:
            brings = f": the best, {best.treatment}, would bring {usd(best.net_micros)} net" if best else ""
            return f"none: nothing is worth its cost{brings}"
        worth = f"queued: worth {usd(best.net_micros)} net at best ({best.treatment})"
        if best.treatment in refused:
            return f"{worth}; it was chosen, but could not be held any more: {refused[best.treatment]}"
        return f"{worth}; {self.held_back(best)}"

    def held_back(self, option: Option) -> str:
        """Which limit an option that was not chosen most likely met."""
        limit = self._capacity.get(option.treatment)
        if limit is not None and self._usage.get(option.treatment, 0) >= limit:
            return self.scarcity(option.treatment)
        if self._budget is not None and self._spent + option.cost_micros > self._budget:
            return f"the budget had {usd(self._budget)} for {self._day}, {usd(self._spent)} of it were given"
        return "others were worth more under the limits together, or the customer's own limits stood against it"

    def scarcity(self, treatment: str) -> str:
        wanted = self._candidates.get(treatment, 0)
        limit = self._capacity.get(treatment)
        if limit is None:
            return f"{treatment} had no limit"
        people = "candidate" if wanted == 1 else "candidates"
        a_day = self._per_day[treatment]
        had = f"{limit} a day" if limit == a_day else f"{limit} of {a_day} a day left"
        return f"{treatment} had {had} for {wanted} {people}"
