"""How many calls to a provider may be repeated: a share of those that it answered, so that repeats never add up.

After gRPC's proposal A6 "gRPC Retry Design", section "Throttling Retry Attempts and Hedged RPCs". A provider that
answers nobody is asked again a few times and then no more.
"""

from typing import Final

from cachetools import LRUCache

ANSWERS: Final = 20
MOST: Final = 5
MAX_BUDGETS: Final = 1_000


class RetryBudget:
    """Of one model of one provider. For one event loop.

    Args:
        answers: how many answers pay for one repeat. A request has one answer at most: with twenty, no more than
            a twentieth of the requests is repeated, and `most` beside: a tenth of any hundred.
        most: repeats that are saved up, and there at the start.
    """

    def __init__(self, answers: int = ANSWERS, most: int = MOST) -> None:
        self._price = answers
        self._most = most * answers
        self._left = self._most

    def answered(self) -> None:
        self._left = min(self._most, self._left + 1)

    def take(self) -> bool:
        """Whether one more call may be repeated; it is taken from the budget where it may."""
        if self._left < self._price:
            return False
        self._left -= self._price
        return True


class RetryBudgets:
    """The budgets of a process, made when first asked for."""

    def __init__(self) -> None:
        self._budgets: LRUCache[tuple[str, str], RetryBudget] = LRUCache(MAX_BUDGETS)

    def get(self, provider: str, model: str) -> RetryBudget:
        return self._budgets.setdefault((provider, model), RetryBudget())
