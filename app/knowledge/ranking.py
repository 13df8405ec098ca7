"""From raw signals to an order and a score: fusion, variety, and the calibrated chance that a passage bears on it."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.knowledge.base import Hit

Key = TypeVar("Key", bound=Hashable)

LEAST_COSINE = -1.0
LEAST_WORDS = 0.0


@dataclass(frozen=True, slots=True)
class Ranking(Generic[Key]):
    """What one way of searching found.

    Args:
        scores: of the candidates, in its own unit.
        weight: its part of the fused score; 0 leaves it out.
        least: the lowest score that it can give to anything.
        cut: there were more candidates than were asked for: what is missing may score up to the last one.
    """

    scores: Mapping[Key, float]
    weight: float
    least: float
    cut: bool = False

    def shares(self) -> tuple[Mapping[Key, float], float]:
        """Each candidate's weighted score as a share of the best one's, and what one that is missing gets."""
        span = max(self.scores.values()) - self.least
        unit = self.weight / span if span > 0 else 0.0
        shares = {key: unit * (score - self.least) for key, score in self.scores.items()}
        return shares, min(shares.values()) if self.cut else 0.0


def fuse(rankings: Iterable[Ranking[Key]]) -> dict[Key, float]:
    """Fused scores, 0 to 1 where the weights add up to 1.

    The convex combination of scores under theoretical min-max normalisation, (score - least) / (best - least), of
    Bruch, Gai, Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval" (ACM TOIS 42(1), 2023). It keeps how
    far apart two candidates are, which the ranks of reciprocal rank fusion forget: where one way of searching knows
    the answer and the other guesses, the one that knows decides. A candidate that a ranking was cut off before
    stands at its last one.
    """
    parts = [ranking.shares() for ranking in rankings if ranking.weight > 0 and ranking.scores]
    base = sum(missing for _, missing in parts)
    fused: dict[Key, float] = {}
    for shares, missing in parts:
        for key, share in shares.items():
            fused[key] = fused.get(key, base) + share - missing
    return fused


def fuse_hybrid(
    nearest: Mapping[Key, float], words: Mapping[Key, float], dense_weight: float, asked: int
) -> dict[Key, float]:
    """Fused scores of the two ways to search: cosines and BM25 scores, each of the best `asked` candidates at most."""
    return fuse(
        [
            Ranking(nearest, dense_weight, LEAST_COSINE, len(nearest) >= asked),
            Ranking(words, 1 - dense_weight, LEAST_WORDS, len(words) >= asked),
        ]
    )


@dataclass(frozen=True, slots=True)
class Calibration:
    """Logistic model of "this passage bears on the question": measured by `tests/perf/calibrate_retrieval.py`.

    Args:
        cosine, lexical, intercept: weights of the topic's cosine, of ln(1 + lexical), and the constant.
        floor: a score under it marks the passage as weak.
    """

    cosine: float
    lexical: float
    intercept: float
    floor: float

    def score(self, cosine: float, lexical: float) -> float:
        """0 to 1."""
        return 1 / (1 + math.exp(-(self.cosine * cosine + self.lexical * math.log1p(lexical) + self.intercept)))


def order(
    hits: Sequence[Hit],
    limit: int,
    worth: Callable[[Hit], float] = lambda _hit: 1.0,
    *,
    repeat: float = 0.7,
    diversity: float = 0.0,
) -> list[Hit]:
    """The `limit` best, with variety.

    Args:
        worth: what a hit's fused score is multiplied by, before all else.
        repeat: each further chunk of a document that is already chosen keeps this much of its score.
        diversity: 0 to 1; the weight of likeness to what is chosen against the score, 1 - lambda of maximal marginal
            relevance (Carbonell, Goldstein, SIGIR 1998). 0 leaves it out.
    """
    left = {place: (1 - diversity) * hit.fused * worth(hit) for place, hit in enumerate(hits)}
    alike = _likeness(hits) if diversity > 0 else None
    penalty: Sequence[float] = [0.0] * len(hits)
    chosen: list[Hit] = []
    while left and len(chosen) < limit:
        best = max(left, key=lambda place: left[place] - penalty[place])
        del left[best]
        chosen.append(hits[best])
        for place in left:
            if hits[place].chunk.document_id == hits[best].chunk.document_id:
                left[place] *= repeat
        if alike is not None:
            penalty = np.maximum(penalty, diversity * alike[best]).tolist()
    return chosen


def _likeness(hits: Sequence[Hit]) -> NDArray[np.float32]:
    """The cosine of every two hits, at least 0."""
    if not hits:
        return np.zeros((0, 0), np.float32)
    vectors = np.stack([hit.vector for hit in hits])
    likeness: NDArray[np.float32] = np.maximum(vectors @ vectors.T, 0)
    return likeness
