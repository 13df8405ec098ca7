"""Measures of a ranking against judgements, and whether two ways to search differ by more than chance."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

RESAMPLES = 10_000
SEED = 20_100


def ndcg(found: Sequence[str], gains: Mapping[str, float], at: int = 10) -> float:
    """Normalised discounted cumulated gain, 0 to 1: gains over log2(rank + 1), as a share of the best order's.

    Järvelin, Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (ACM TOIS 20(4), 2002).

    Args:
        found: document ids, best first, each once.
        gains: what each relevant document is worth; at least one.
    """
    return _discounted([gains.get(document, 0.0) for document in found[:at]]) / _discounted(
        sorted(gains.values(), reverse=True)[:at]
    )


def recall(found: Sequence[str], gains: Mapping[str, float], at: int = 20) -> float:
    """The share of the relevant documents among the first `at`."""
    return len(gains.keys() & set(found[:at])) / len(gains)


def chance(better: Sequence[float], worse: Sequence[float], resamples: int = RESAMPLES) -> float:
    """One-sided p of a paired bootstrap: how often the mean difference over resampled questions is not above 0.

    Efron, Tibshirani, "An Introduction to the Bootstrap" (1993), as used for retrieval by Sakai, "Evaluating evaluation
    metrics based on the bootstrap" (SIGIR 2006). The same samples on every call.
    """
    differences = np.asarray(better) - np.asarray(worse)
    picks = np.random.default_rng(SEED).integers(0, len(differences), (resamples, len(differences)))
    return float(np.mean(differences[picks].mean(axis=1) <= 0))


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))
