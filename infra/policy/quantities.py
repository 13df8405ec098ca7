"""Kubernetes' numbers: quantities, and how many pods a budget lets go."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

_UNITS: Final = {
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    "m": Decimal("0.001"),
}


def amount(quantity: object) -> Decimal:
    """Of `250m`, `1.5Gi` or `3`: cores, bytes or things. Raises decimal.InvalidOperation for what is none."""
    text = str(quantity)
    unit = next((one for one in sorted(_UNITS, key=len, reverse=True) if text.endswith(one)), "")
    return Decimal(text.removesuffix(unit)) * _UNITS.get(unit, Decimal(1))


def may_go(budget: Mapping[str, Any], replicas: int) -> int:
    """Pods of `replicas` healthy ones that a PodDisruptionBudget lets go at once; shares are rounded up, as the
    disruption controller does."""
    if budget.get("maxUnavailable") is not None:
        return min(replicas, _scaled(budget["maxUnavailable"], replicas))
    return max(0, replicas - _scaled(budget.get("minAvailable", 1), replicas))


def _scaled(value: object, replicas: int) -> int:
    text = str(value)
    return math.ceil(Decimal(text[:-1]) * replicas / 100) if text.endswith("%") else int(text)
