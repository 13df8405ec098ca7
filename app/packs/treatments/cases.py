"""Similar past cases: what came of each treatment among customers who look alike, with little data made careful.

Two steps of shrinkage, both the posterior mean of a beta-binomial model:

1. The rate among the nearest fingerprints is drawn to the rate of the treatment over all cases of the tenant.
2. The rate of a customer's own fingerprint is drawn to that of its neighbours.

How strongly is learned from the data, by Kleinman's moments ("Proportions with Extraneous Variance: Single and
Independent Samples", JASA 68, 1973): fingerprints that differ more than chance explains are drawn less. Neighbours
are weighed by Epanechnikov's kernel, as far as the first fingerprint that is not among them (Loader, "Local
Regression and Likelihood", 1999, chapter 2). The rate over all cases is drawn to the catalogue's `base_chance`, as if
it had been seen in `PSEUDO_TRIALS` cases.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

from app.cache.known import Known
from app.packs.treatments.models import Case
from app.storage.db import Database

NOTHING: Final = ""
"""The name under which cases of customers stand who had no treatment."""
MAX_CASES: Final = 20_000
NEIGHBOURS: Final = 20
PSEUDO_TRIALS: Final = 20.0
LEAST_STRENGTH, MOST_STRENGTH = 2.0, 500.0
TTL_S: Final = 10.0
MAX_TENANTS: Final = 4
TOLERANCE: Final = 1e-4

Floats = NDArray[np.float64]


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
class Snapshot:
    """A tenant's cases at one moment. `vectors` (fingerprints x numbers), `trials` and `successes` (fingerprints x
    treatments). `stamp` changes whenever a case does."""

    stamp: tuple[int, datetime | None]
    places: Mapping[str, int]
    columns: Mapping[str, int]
    vectors: NDArray[np.float32]
    trials: Floats
    successes: Floats


class Cases:
    """Rates by fingerprint and treatment. A tenant's cases are kept for `ttl_s` seconds, the newest `MAX_CASES` of
    them, and read again only where one has changed."""

    def __init__(self, db: Database, *, ttl_s: float = TTL_S) -> None:
        self._db = db
        self._last: Known[str, Snapshot] = Known(self._read, ttl_s=float("inf"), size=MAX_TENANTS)
        self._fresh: Known[str, Snapshot] = Known(self._checked, ttl_s=ttl_s, size=MAX_TENANTS)

    async def near(
        self, tenant_id: str, looks: Sequence[Look], base_chances: Mapping[str, float]
    ) -> dict[str, dict[str, Rate]]:
        """By fingerprint and by treatment of `base_chances` (`NOTHING` among them): the rate among similar cases."""
        snapshot = await self._fresh.get(tenant_id)
        different = list({look.fingerprint: look for look in looks}.values())
        return await asyncio.to_thread(rates, snapshot, different, base_chances)

    async def _checked(self, tenant_id: str) -> Snapshot:
        last = await self._last.get(tenant_id)
        if last.stamp == await self._stamp(tenant_id):
            return last
        self._last.forget(tenant_id)
        return await self._last.get(tenant_id)

    async def _stamp(self, tenant_id: str) -> tuple[int, datetime | None]:
        newest = select(func.sum(Case.trials), func.max(Case.updated_at)).where(Case.tenant_id == tenant_id)
        async with self._db.reading() as session:
            count, at = (await session.execute(newest)).one()
        return count or 0, at

    async def _read(self, tenant_id: str) -> Snapshot:
        stamp = await self._stamp(tenant_id)
        columns = (Case.fingerprint, Case.treatment, Case.vector, Case.trials, Case.successes)
        newest = select(*columns).where(Case.tenant_id == tenant_id)
        async with self._db.reading() as session:
            found = await session.execute(newest.order_by(Case.updated_at.desc(), Case.id).limit(MAX_CASES))
            rows = [(row[0], row[1], row[2], row[3], row[4]) for row in found]
        return await asyncio.to_thread(snapshot_of, stamp, rows)


CaseRow = tuple[str, str, Sequence[float], int, int]
"""Fingerprint, treatment, vector, trials, successes."""


def snapshot_of(stamp: tuple[int, datetime | None], rows: Sequence[CaseRow]) -> Snapshot:
    """Vectors of another length than most have (from an older layout) are left out."""
    lengths = Counter(len(row[2]) for row in rows)
    length = lengths.most_common(1)[0][0] if lengths else 0
    fitting = [row for row in rows if len(row[2]) == length]
    vectors = {row[0]: row[2] for row in fitting}
    places = {fingerprint: place for place, fingerprint in enumerate(vectors)}
    columns = {name: column for column, name in enumerate(sorted({row[1] for row in fitting}))}
    trials, successes = np.zeros((len(places), len(columns))), np.zeros((len(places), len(columns)))
    for fingerprint, treatment, _, tried, succeeded in fitting:
        trials[places[fingerprint], columns[treatment]] = tried
        successes[places[fingerprint], columns[treatment]] = min(succeeded, tried)
    packed = np.asarray(list(vectors.values()), dtype=np.float32).reshape(len(places), length)
    return Snapshot(stamp, places, columns, packed, trials, successes)


def rates(snapshot: Snapshot, looks: Sequence[Look], base_chances: Mapping[str, float]) -> dict[str, dict[str, Rate]]:
    """By fingerprint and treatment."""
    weights = _weights(snapshot, looks)
    own = np.asarray([snapshot.places.get(look.fingerprint, -1) for look in looks], dtype=np.int64)
    by_treatment = {name: _rates(snapshot, weights, own, name, base) for name, base in base_chances.items()}
    return {
        look.fingerprint: {name: found[place] for name, found in by_treatment.items()}
        for place, look in enumerate(looks)
    }


def _rates(
    snapshot: Snapshot, weights: NDArray[np.float32], own: NDArray[np.int64], treatment: str, base: float
) -> list[Rate]:
    column = snapshot.columns.get(treatment)
    if column is None:
        return [Rate(base, 0.0)] * len(own)
    trials, successes = snapshot.trials[:, column], snapshot.successes[:, column]
    mean = (successes.sum() + base * PSEUDO_TRIALS) / (trials.sum() + PSEUDO_TRIALS)
    strength = strength_of(trials, successes)
    near_trials, near_successes = weights @ trials, weights @ successes
    near = (near_successes + strength * mean) / (near_trials + strength)
    own_trials = np.where(own >= 0, trials[own], 0.0)
    own_successes = np.where(own >= 0, successes[own], 0.0)
    chances = (own_successes + strength * near) / (own_trials + strength)
    return [Rate(float(chance), float(seen)) for chance, seen in zip(chances, own_trials + near_trials, strict=True)]


def strength_of(trials: Floats, successes: Floats) -> float:
    """How many cases the mean counts for against a fingerprint's own, by Kleinman's moments (weights n_i).

    With p the mean rate and S = sum n_i (p_i - p)^2, the correlation within a fingerprint is
    g = (S - pq(F - 1)) / (pq((N - sum n_i^2 / N) - (F - 1))), and the strength 1/g - 1.
    """
    n, s = trials[trials > 0], successes[trials > 0]
    total = n.sum()
    if len(n) < 2:
        return PSEUDO_TRIALS
    p = s.sum() / total
    spread = total - (n**2).sum() / total - (len(n) - 1)
    if p in (0.0, 1.0) or spread <= 0:
        return PSEUDO_TRIALS
    g = ((n * (s / n - p) ** 2).sum() - p * (1 - p) * (len(n) - 1)) / (p * (1 - p) * spread)
    return float(np.clip(1 / g - 1, LEAST_STRENGTH, MOST_STRENGTH)) if g > 0 else MOST_STRENGTH


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
