"""Keeping a score's probabilities true while the base rate moves.

A ranking ages slowly, a base rate may double within a month. What is refitted on the latest outcomes is one number,
the intercept: it restores the level and leaves every explanation as it was (prior-shift correction, Saerens et al.
2002, by maximum likelihood on recent outcomes instead of by EM on unlabelled ones). Training does it once; doing it
again as outcomes arrive is what the evaluation measures.
"""

import math

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInput
from app.packs.leads.scoring.metrics import Numbers, Outcomes, checked

Floats = NDArray[np.float64]

# Weak on purpose: 4 standard units hold the fit together when a window has one kind of outcome only.
_PRIOR_SD = 4.0
_NEWTON_STEPS = 50
_LARGEST_STEP = 2.0
_CONVERGED = 1e-10


def probabilities(log_odds: Floats) -> Floats:
    """Log-odds as probabilities, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * log_odds)), dtype=np.float64)


def fit_intercept(evidence: Numbers, outcomes: Outcomes) -> float:
    """The intercept that makes the mean probability equal the observed rate, evidence held fixed.

    Args:
        evidence: log-odds of each lead without the intercept.
        outcomes: what became of them.
    """
    offset, truth = checked(evidence, outcomes)
    prior = math.log((truth.sum() + 0.5) / (truth.size - truth.sum() + 0.5))
    intercept = prior
    for _ in range(_NEWTON_STEPS):
        p = probabilities(offset + intercept)
        gradient = float((truth - p).sum()) - (intercept - prior) / _PRIOR_SD**2
        curvature = float((p * (1 - p)).sum()) + 1 / _PRIOR_SD**2
        step = max(-_LARGEST_STEP, min(_LARGEST_STEP, gradient / curvature))
        intercept += step
        if abs(step) < _CONVERGED:
            break
    return float(intercept)


def recalibrated_as_outcomes_arrive(
    evidence: Numbers, outcomes: Outcomes, history: int, *, block: int = 500, window: int = 4000
) -> Floats:
    """Probabilities of the rows after `history`, each block at the intercept that its past supports (prequential).

    Args:
        evidence: log-odds without the intercept, of all rows in the order of time.
        outcomes: of the same rows; those of a block are used only for later blocks (Dawid 1984).
        history: rows before the first block.
        block: rows between two refits.
        window: latest rows a refit looks at.

    Raises:
        InvalidInput: there is no history or nothing after it.
    """
    offset, truth = checked(evidence, outcomes)
    if not 0 < history < offset.size:
        raise InvalidInput(f"Give a history of 1 to {offset.size - 1} rows, not {history}.")
    parts = []
    for start in range(history, offset.size, block):
        past = slice(max(0, start - window), start)
        intercept = fit_intercept(offset[past], truth[past])
        parts.append(probabilities(offset[start : start + block] + intercept))
    return np.concatenate(parts)
