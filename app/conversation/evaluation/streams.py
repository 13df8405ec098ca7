"""Questions one after another against a cache of answers by meaning, and how often it answers, and how well."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from app.conversation.evaluation.banking import Asked
from app.conversation.sameness import tokens
from app.conversation.semantic import LOOKED_AT, shareable
from app.knowledge.base import Vectors

Scorer = Callable[[str, str, float], float]
"""Two questions and their cosine; 0 to 1. `Sameness.score` is one."""

RESAMPLES = 2_000
SEED = 20_100
# Questions in the cache are looked for among so many neighbours: all but a few of these are in it where hits are rare.
_NEAREST = 128
_ROWS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of each question, in order.

    Args:
        hits: whether a kept answer was given.
        wrong: whether that answer was to a question of another intent.
        disputed: whether that question has the very same words, so that the two intents are the labels' own dispute;
            never `wrong` as well.
        sources: the row in the cache's own list that the answer is from; -1 where none was given.
    """

    hits: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    disputed: NDArray[np.bool_]
    sources: NDArray[np.int64]

    @property
    def hit_rate(self) -> float:
        return float(self.hits.mean())

    @property
    def false_of_hits(self) -> float:
        return float(self.wrong.sum() / max(1, self.hits.sum()))

    @property
    def false_of_all(self) -> float:
        return float(self.wrong.mean())

    def interval(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The 95 % intervals of the hit rate and of the false share of hits, by bootstrap over questions (Efron,
        Tibshirani, 1993); the same on every call."""
        shares = [(self.hits & ~self.wrong).mean(), self.wrong.mean(), (~self.hits).mean()]
        right, wrong, _ = np.random.default_rng(SEED).multinomial(len(self.hits), shares, RESAMPLES).T
        return _middle((right + wrong) / len(self.hits)), _middle(wrong / np.maximum(1, right + wrong))


def _middle(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


class Stream:
    """Questions and what may answer them: the nearest of a list that is kept from the start, or of those that were
    asked before and had to be answered.

    Args:
        kept: what the cache holds from the start; None for an empty cache that is filled by misses. Where it is the
            very list that is asked, no question answers itself.
        score: asked for once a pair.
    """

    def __init__(
        self,
        asked: Sequence[Asked],
        vectors: Vectors,
        score: Scorer,
        kept: tuple[Sequence[Asked], Vectors] | None = None,
    ) -> None:
        self._asked = asked
        self._vectors = vectors
        self._score = score
        self._filled = kept is None
        self._kept, self._kept_vectors = kept or (asked, vectors)
        self._scores: dict[tuple[int, int], float] = {}

    def replay(self, threshold: float) -> Outcome:
        """As `SemanticAnswers` does it: of the nearest `LOOKED_AT` the surest one, where it reaches the threshold."""
        sources = np.full(len(self._asked), -1)
        held = np.array([not self._filled and shareable(question.text) for question in self._kept])
        for index, question in enumerate(self._asked):
            if not shareable(question.text):
                continue
            found = self._surest(index, held)
            if found is not None and self._scores[index, found] >= threshold:
                sources[index] = found
            elif self._filled:
                held[index] = True
        return self._judged(sources)

    def mistakes(self, threshold: float) -> list[tuple[Asked, Asked]]:
        """Each question that gets an answer of another intent, with the question that the answer was made for."""
        outcome = self.replay(threshold)
        rows = map(int, np.flatnonzero(outcome.wrong))
        return [(self._asked[row], self._kept[int(outcome.sources[row])]) for row in rows]

    def pairs(self) -> Iterator[tuple[Asked, Asked, float]]:
        """Each question with each of the nearest in a full cache, and their cosine: what a score is fitted on."""
        for question, near, cosines in zip(self._asked, *self._nearest, strict=True):
            for row, cosine in zip(near[:LOOKED_AT], cosines[:LOOKED_AT], strict=True):
                yield question, self._kept[row], float(cosine)

    def _judged(self, sources: NDArray[np.int64]) -> Outcome:
        other, same = np.zeros(len(sources), bool), np.zeros(len(sources), bool)
        for row in np.flatnonzero(sources >= 0):
            asked, source = self._asked[int(row)], self._kept[int(sources[row])]
            other[row] = asked.intent != source.intent
            same[row] = tokens(asked.text) == tokens(source.text)
        return Outcome(sources >= 0, other & ~same, other & same, sources)

    def _surest(self, index: int, held: NDArray[np.bool_]) -> int | None:
        near, cosines = self._nearest[0][index], self._nearest[1][index]
        there = np.flatnonzero(held[near] & np.isfinite(cosines))[:LOOKED_AT]
        for place in there:
            pair = (index, int(near[place]))
            if pair not in self._scores:
                texts = self._asked[index].text, self._kept[pair[1]].text
                self._scores[pair] = self._score(*texts, float(cosines[place]))
        return max((int(near[place]) for place in there), key=lambda row: self._scores[index, row], default=None)

    @cached_property
    def _nearest(self) -> tuple[NDArray[np.int64], Vectors]:
        """For each question the rows of its nearest, nearest first, and their cosines; -inf where there are less."""
        rows, cosines = [], []
        for start in range(0, len(self._asked), _ROWS_AT_ONCE):
            block = self._vectors[start : start + _ROWS_AT_ONCE] @ self._kept_vectors.T
            self._hide(block, start)
            near = np.argpartition(-block, min(_NEAREST, block.shape[1] - 1), axis=1)[:, :_NEAREST]
            order = np.argsort(-np.take_along_axis(block, near, 1), axis=1, kind="stable")
            rows.append(np.take_along_axis(near, order, 1))
            cosines.append(np.take_along_axis(block, rows[-1], 1))
        return np.concatenate(rows), np.concatenate(cosines)

    def _hide(self, block: Vectors, start: int) -> None:
        """No question is answered by itself, nor, where the cache is filled on the way, by one that comes later."""
        if self._kept is self._asked:
            at = np.arange(start, start + len(block))
            block[np.arange(len(block)), at] = -np.inf
            if self._filled:
                block[np.arange(len(self._kept))[None] > at[:, None]] = -np.inf
