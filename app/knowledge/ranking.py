"""From raw signals to an order and a score: fusion, variety, and the calibrated chance that a passage bears on it."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from app.knowledge.base import Hit

RRF_K = 60


def fuse(rankings: Iterable[tuple[Sequence[str], float]], k: int = RRF_K) -> dict[str, float]:
    """Weighted reciprocal rank fusion: ids of each ranking (best first) with the ranking's weight, to fused scores.

    The sum of weight / (k + rank), ranks from 1; k = 60 as in Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion
    outperforms Condorcet and individual rank learning methods" (SIGIR 2009). Qdrant's own weighted RRF divides
    the rank by the weight instead, which makes places in the lighter ranking count for more, not less.
    """
    scores: dict[str, float] = {}
    for ids, weight in rankings:
        if weight > 0:
            for rank, item in enumerate(ids, start=1):
                scores[item] = scores.get(item, 0.0) + weight / (k + rank)
    return scores


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
    hits: Iterable[Hit], limit: int, foreign: Callable[[Hit], bool], *, demotion: float = 0.5, repeat: float = 0.85
) -> list[Hit]:
    """The `limit` best, with variety.

    Args:
        foreign: tells a hit in a language that is neither the question's nor English; it keeps `demotion` of
            its fused score, so that a French page does not answer a Spanish question before a Spanish one does.
        repeat: each further chunk of a document that is already chosen keeps this much of its score.
    """
    left = {hit.chunk.id: (hit, hit.fused * (demotion if foreign(hit) else 1.0)) for hit in hits}
    chosen: list[Hit] = []
    per_document: Counter[str] = Counter()
    while left and len(chosen) < limit:
        best, _ = max(left.values(), key=lambda entry: entry[1] * repeat ** per_document[entry[0].chunk.document_id])
        chosen.append(best)
        per_document[best.chunk.document_id] += 1
        del left[best.chunk.id]
    return chosen
