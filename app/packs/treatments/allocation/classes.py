"""Customers whose options are the same, as one class: ties between them then cost the search nothing.

A count of units for each option of a class can always be dealt out to its members, so nothing is lost by deciding on
classes.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from app.packs.treatments.allocation.problem import Array

Ints = npt.NDArray[np.int64]
_MIX: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True, slots=True)
class Rows:
    """Options in the order of their customers. `first` is where a customer's options begin (one more entry than
    customers), `traits` (traits, customers) what else parts customers."""

    treatment: Array
    score: Ints
    cost: Ints
    first: Ints
    traits: Ints

    @property
    def lengths(self) -> Ints:
        return np.diff(self.first)


@dataclass(frozen=True, slots=True)
class Classes:
    """`members` are rows' customers, class by class; those of class c are `members[member_first[c]:][:count[c]]`."""

    members: Ints
    member_first: Ints
    count: Ints

    @property
    def examples(self) -> Ints:
        """One customer of each class."""
        return self.members[self.member_first]


def classify(rows: Rows, seed: int) -> Classes:
    """Parts the customers into classes; members stand in an order drawn with `seed`. Every customer has an option.

    Equal 64-bit digests find the classes; each member is then compared with the first, so a collision costs nothing
    but a class more.
    """
    customers = rows.first.size - 1
    digest = _digests(rows)
    draw = np.random.default_rng(seed).permutation(customers)
    order = draw[np.argsort(digest[draw], kind="stable")]
    sorted_digest = digest[order]
    opens = np.ones(customers, np.bool_)
    opens[1:] = sorted_digest[1:] != sorted_digest[:-1]
    example = order[np.maximum.accumulate(np.where(opens, np.arange(customers), 0))]
    stray = ~_alike(rows, order, example)
    if stray.any():
        opens |= stray
        opens[1:] |= stray[:-1]
    starts = np.flatnonzero(opens)
    return Classes(order, starts, np.diff(np.append(starts, customers)))


def _digests(rows: Rows) -> npt.NDArray[np.uint64]:
    parts = rows.treatment.astype(np.uint64)
    for values in (rows.score, rows.cost):
        parts = _mixed(parts) ^ values.view(np.uint64)
    digest = np.add.reduceat(_mixed(parts), rows.first[:-1])
    for trait in rows.traits:
        digest = _mixed(digest) ^ trait.view(np.uint64)
    return digest


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's step (Steele, Lea and Flood 2014, OOPSLA)."""
    values = values + _MIX[0]
    values = (values ^ (values >> np.uint64(30))) * _MIX[1]
    values = (values ^ (values >> np.uint64(27))) * _MIX[2]
    return values ^ (values >> np.uint64(31))


def _alike(rows: Rows, one: Ints, other: Ints) -> npt.NDArray[np.bool_]:
    """Whether customers one[i] and other[i] have the same options and traits."""
    lengths = rows.lengths
    same: npt.NDArray[np.bool_] = (lengths[one] == lengths[other]) & (rows.traits[:, one] == rows.traits[:, other]).all(
        axis=0
    )
    pairs = np.flatnonzero(same & (one != other))
    sizes = lengths[one[pairs]]
    here, there = spans(rows.first[one[pairs]], sizes), spans(rows.first[other[pairs]], sizes)
    differs = np.zeros(here.size, np.bool_)
    for values in (rows.treatment, rows.score, rows.cost):
        differs |= values[here] != values[there]
    same[np.repeat(pairs, sizes)[differs]] = False
    return same


def spans(starts: Ints, sizes: Ints) -> Ints:
    """The numbers starts[i] to starts[i] + sizes[i] - 1, for one i after the other."""
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(int(sizes.sum()))
