"""What came of each treatment among customers who look alike, with little data made careful.

Three steps, each drawing what few cases say to what more cases say:

1. A ridge logistic regression of success on the fingerprints' vectors: what the traits, each by itself, have to do with
   it. Its coefficients have a standard normal prior (Le Cessie and van Houwelingen, "Ridge Estimators in Logistic
   Regression", Applied Statistics 41, 1992). Its chance is drawn to the catalogue's `base_chance`, as if that had been
   seen in `PSEUDO_TRIALS` cases.
2. The nearest fingerprints, weighed by Epanechnikov's kernel as far as the first that is not among them (Loader, "Local
   Regression and Likelihood", 1999, chapter 2): how far they are off from what the regression says of them.
3. The customer's own fingerprint.

Steps 2 and 3 are posterior means of a beta-binomial model. How strongly they draw is learned by moments: fingerprints
that differ from the regression by more than chance explains are drawn less (Williams, "Extra-binomial Variation in
Logistic Linear Models", Applied Statistics 31, 1982).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS: Final = 20
PSEUDO_TRIALS: Final = 20.0
LEAST_STRENGTH, MOST_STRENGTH = 2.0, 500.0
NO_STRENGTH_KNOWN: Final = 20.0
PRECISION: Final = 1.0
"""Of the coefficients' prior."""
TOLERANCE: Final = 1e-4
_STEPS: Final = 30
_AT_ONCE: Final = 16

Floats = NDArray[np.float64]
Stamp = tuple[int, datetime | None]


@dataclass(frozen=True, slots=True)
class CaseRow:
    """Past cases that look alike and had the same treatment."""

    fingerprint: str
    treatment: str
    vector: Sequence[float] | NDArray[np.float32]
    trials: int
    successes: int


@dataclass(frozen=True, slots=True)
class Rate:
    """`chance` of success, 0 to 1, after shrinkage; `trials`: how many cases are behind it, neighbours by weight."""

    chance: float
    trials: float


@dataclass(frozen=True, slots=True)
class Look:
    """What a customer is told apart by."""

    fingerprint: str
    vector: Sequence[float]


@dataclass(frozen=True, slots=True)
class Learned:
    """Of one treatment. `trials`, `successes` and `chances` (what the regression says) by fingerprint; `coefficients`
    of the regression, the intercept first; `strength` in cases."""

    trials: Floats
    successes: Floats
    chances: Floats
    coefficients: Floats
    strength: float

    def base(self, chances: Floats, base: float) -> Floats:
        """Chances of the regression, drawn to the catalogue's."""
        total = self.trials.sum()
        drawn: Floats = (total * chances + PSEUDO_TRIALS * base) / (total + PSEUDO_TRIALS)
        return drawn


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tenant's cases at one moment. `places` are rows of `vectors` (fingerprints x numbers) by fingerprint. `stamp`
    changes whenever a case does."""

    stamp: Stamp
    places: Mapping[str, int]
    vectors: NDArray[np.float32]
    treatments: Mapping[str, Learned]


def snapshot_of(stamp: Stamp, rows: Sequence[CaseRow]) -> Snapshot:
    """Vectors of another length than most have (from an older layout) are left out."""
    lengths = Counter(len(row.vector) for row in rows)
    length = lengths.most_common(1)[0][0] if lengths else 0
    fitting = [row for row in rows if len(row.vector) == length]
    by_fingerprint = {row.fingerprint: row.vector for row in fitting}
    places = {fingerprint: place for place, fingerprint in enumerate(by_fingerprint)}
    vectors = np.asarray(list(by_fingerprint.values()), dtype=np.float32).reshape(len(places), length)
    counts = {row.treatment: (np.zeros(len(places)), np.zeros(len(places))) for row in fitting}
    for row in fitting:
        trials, successes = counts[row.treatment]
        trials[places[row.fingerprint]] = row.trials
        successes[places[row.fingerprint]] = min(row.successes, row.trials)
    return Snapshot(stamp, places, vectors, {name: learned(vectors, *found) for name, found in counts.items()})


def learned(vectors: NDArray[np.float32], trials: Floats, successes: Floats) -> Learned:
    """`vectors` (fingerprints x numbers), `trials` and `successes` by fingerprint."""
    there = trials > 0
    coefficients = fitted(vectors[there].astype(np.float64), trials[there], successes[there])
    chances = _chances(vectors.astype(np.float64), coefficients)
    strength = strength_of(trials[there], successes[there], chances[there])
    return Learned(trials, successes, chances, coefficients, strength)


def fitted(vectors: Floats, trials: Floats, successes: Floats) -> Floats:
    """The regression's coefficients, the intercept first, by Newton's method. The prior is around no effect at all, at
    the rate over all cases."""
    rate = (successes.sum() + 0.5) / (trials.sum() + 1)
    inputs = np.column_stack([np.ones(len(vectors)), vectors])
    centre = np.zeros(inputs.shape[1])
    centre[0] = np.log(rate / (1 - rate))
    now = centre.copy()
    for _ in range(_STEPS):
        chances = 1 / (1 + np.exp(-inputs @ now))
        slope = inputs.T @ (successes - trials * chances) - PRECISION * (now - centre)
        bend = (inputs * (trials * chances * (1 - chances))[:, None]).T @ inputs + PRECISION * np.eye(len(now))
        step = np.linalg.solve(bend, slope)
        # A step of more than 1 in log-odds may leave the region in which Newton's method closes in.
        now += step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < TOLERANCE:
            break
    return now


def strength_of(trials: Floats, successes: Floats, chances: Floats) -> float:
    """How many cases `chances` count for against a fingerprint's own.

    With r = sum((s - nm)^2 - nm(1 - m)) / sum(n(n - 1)m(1 - m)), the correlation of cases of one fingerprint beyond
    what m says, it is 1/r - 1.
    """
    spread = trials * chances * (1 - chances)
    pairs = float((spread * (trials - 1)).sum())
    if pairs <= 0:
        return NO_STRENGTH_KNOWN
    correlation = float(((successes - trials * chances) ** 2 - spread).sum()) / pairs
    return float(np.clip(1 / correlation - 1, LEAST_STRENGTH, MOST_STRENGTH)) if correlation > 0 else MOST_STRENGTH


def rates(snapshot: Snapshot, looks: Sequence[Look], base_chances: Mapping[str, float]) -> dict[str, dict[str, Rate]]:
    """By fingerprint and by treatment of `base_chances`. Memory: some `_AT_ONCE` x fingerprints numbers."""
    found: dict[str, dict[str, Rate]] = {}
    for start in range(0, len(looks), _AT_ONCE):
        part = looks[start : start + _AT_ONCE]
        weights = _weights(snapshot, part)
        by_treatment = {name: _rates(snapshot, weights, part, name, base) for name, base in base_chances.items()}
        for place, look in enumerate(part):
            found[look.fingerprint] = {name: given[place] for name, given in by_treatment.items()}
    return found


def _rates(
    snapshot: Snapshot, weights: NDArray[np.float32], looks: Sequence[Look], treatment: str, base: float
) -> list[Rate]:
    known = snapshot.treatments.get(treatment)
    if known is None:
        return [Rate(base, 0.0)] * len(looks)
    expected = known.base(known.chances, base)
    own = np.asarray([snapshot.places.get(look.fingerprint, -1) for look in looks], dtype=np.int64)
    trials = np.where(own >= 0, known.trials[own], 0.0)
    successes = np.where(own >= 0, known.successes[own], 0.0)
    prior = known.base(_chances(_vectors(snapshot, looks), known.coefficients), base)
    near = weights @ known.trials
    off = (weights @ (known.successes - known.trials * expected)) / (near + known.strength)
    local = np.clip(prior + off, 0, 1)
    chances = (successes + known.strength * local) / (trials + known.strength)
    return [Rate(float(chance), float(seen)) for chance, seen in zip(chances, trials + near, strict=True)]


def _vectors(snapshot: Snapshot, looks: Sequence[Look]) -> Floats:
    """Looks x numbers; the mean of all known ones for a vector of another layout."""
    length = snapshot.vectors.shape[1]
    mean = snapshot.vectors.mean(axis=0)
    return np.asarray([look.vector if len(look.vector) == length else mean for look in looks], dtype=np.float64)


def _chances(vectors: Floats, coefficients: Floats) -> Floats:
    chances: Floats = 1 / (1 + np.exp(-(coefficients[0] + vectors @ coefficients[1:])))
    return chances


def _weights(snapshot: Snapshot, looks: Sequence[Look]) -> NDArray[np.float32]:
    """Looks x fingerprints: 0 to 1 for the nearest ones by Euclidean distance, 0 for the own fingerprint."""
    weights = np.zeros((len(looks), len(snapshot.places)), dtype=np.float32)
    lengths = (snapshot.vectors**2).sum(1)
    for row, look in enumerate(looks):
        if len(look.vector) != snapshot.vectors.shape[1] or not len(lengths):
            continue
        vector = np.asarray(look.vector, dtype=np.float32)
        squares = np.maximum(lengths - 2 * (snapshot.vectors @ vector) + (vector**2).sum(), 0)
        own = snapshot.places.get(look.fingerprint)
        others = squares if own is None else np.delete(squares, own)
        if len(others):
            weights[row] = np.clip(1 - squares / _edge(others), 0, None)
        if own is not None:
            weights[row, own] = 0
    return weights


def _edge(squares: NDArray[np.float32]) -> float:
    """The squared distance at which a weight is 0: of the first that is farther than the last neighbour. Many are
    equally far where vectors hold words, and all of them are neighbours then."""
    last = np.partition(squares, min(NEIGHBOURS, len(squares)) - 1)[min(NEIGHBOURS, len(squares)) - 1]
    farther = squares[squares > last + TOLERANCE]
    return float(farther.min()) if len(farther) else 2 * float(last) + TOLERANCE
