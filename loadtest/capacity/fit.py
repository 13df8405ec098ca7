"""How a figure grows with something: not, with its logarithm, or in proportion. Least squares over a few points."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import numpy as np

TOLERANCE: Final = 0.1
"""Relative to the first point: less than this between any two is no growth on a machine that others use too."""


class Shape(StrEnum):
    FLAT = "flat"
    LOG = "log"
    LINEAR = "linear"


_SCALES: Final[Mapping[Shape, Callable[[float], float]]] = MappingProxyType({Shape.LOG: math.log, Shape.LINEAR: float})


@dataclass(frozen=True, slots=True)
class Growth:
    """`slope`: of the figure, for each tenfold where it is `log`, for each one more where it is `linear`."""

    shape: Shape
    slope: float = 0.0

    def told(self, unit: str, of: str) -> str:
        """In words: `linear, +0.021 ms a turn`."""
        if self.shape is Shape.FLAT:
            return str(self.shape)
        return (
            f"{self.shape}, {self.slope:+.2g} {unit} {'a' if self.shape is Shape.LINEAR else 'for ten times the'} {of}"
        )


def fit(points: Mapping[float, float], noise: float = 0.0) -> Growth:
    """The growth of a figure over positive amounts, the smallest of which is the baseline.

    Flat where no figure differs from the baseline's by more than the tolerance or by three times its noise (a
    standard error relative to the baseline); otherwise the one of the two shapes that leaves the smaller squares.
    """
    amounts = sorted(points)
    values = [points[amount] for amount in amounts]
    base = abs(values[0])
    if max(abs(value - values[0]) for value in values) <= max(TOLERANCE, 3 * noise) * base or max(values) == 0:
        return Growth(Shape.FLAT)
    squares = {shape: _line([scale(amount) for amount in amounts], values) for shape, scale in _SCALES.items()}
    best = min(squares, key=lambda shape: squares[shape][1])
    slope = squares[best][0]
    return Growth(best, slope * math.log(10) if best is Shape.LOG else slope)


def _line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Slope and sum of squares that are left."""
    slope, intercept = np.polyfit(xs, ys, 1)
    left = np.asarray(ys) - (slope * np.asarray(xs) + intercept)
    return float(slope), float(left @ left)
