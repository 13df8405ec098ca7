"""Fit the lead score on past outcomes. The only module that imports scikit-learn and scipy, and only when it trains.

Three things make the fit hold on leads of a later time:

- nuisance intercepts, one for each period of the history, take up the moving base rate (fixed effects, Neyman and
  Scott 1948): the weights are learned from differences between leads of the same period and are then kept alone;
- the slope comes from forward folds: models of the past judged on what followed (Platt 1999, on forecasts instead of
  a random hold-out);
- the intercept comes from the latest slice of the history.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInput
from app.packs.leads.scoring.calibration import Floats, fit_intercept, probabilities
from app.packs.leads.scoring.features import Attributes, Feature, FeatureSpec, LeakingFeature, as_level, learn_spec
from app.packs.leads.scoring.metrics import (
    brier,
    expected_calibration_error,
    roc_auc,
    top_decile_lift,
)
from app.packs.leads.scoring.model import ScoreModel, Training
from app.packs.leads.scoring.rules import RuleSet

MIN_ROWS = 100
MIN_OF_EACH = 10
POSITIVE: Final = frozenset({"yes", "true", "1", "1.0", "won", "converted"})
NEGATIVE: Final = frozenset({"no", "false", "0", "0.0", "lost", "not converted"})

_FOLDS = 4
_FOLDS_SHARE = 1 / 3
_LATEST_SHARE = 1 / 6
_LATEST_AT_LEAST = 500
_LEAK_AUC = 0.95
# A period's intercept is pulled to zero nine times less than a weight is.
_PERIOD_SCALE = 3.0
_SLOPE_PRIOR_SD = 0.45

Codes = NDArray[np.int64]
Truth = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fit:
    """How strongly, and against which periods, the weights are fitted.

    Attributes:
        strength: variance of the weights' Gaussian prior (scikit-learn's C).
        period_rows: rows that share one nuisance intercept.
    """

    strength: float = 0.1
    period_rows: int = 1000


@dataclass(frozen=True, slots=True)
class ForwardMetrics:
    """Quality on the forward folds: each judged by a model of earlier rows only."""

    rows: int
    roc_auc: float
    top_decile_lift: float
    calibration_error: float
    brier: float


@dataclass(frozen=True, slots=True)
class TrainReport:
    """The model and what is known of it.

    Attributes:
        metrics: on forward folds; None where the history is too thin for one.
        floor: of the rules on the same rows: keep the rules where these are better.
        slope: factor on the weights that the forward folds asked for; below 1: the past promised too much.
        forward_rows: places of the forward folds' rows in the history.
        forward_scores: calibrated probabilities of the forward folds, to fit thresholds on.
        forward_outcomes: their outcomes.
        skipped: columns that are no feature, with the reason.
    """

    model: ScoreModel
    metrics: ForwardMetrics | None
    floor: ForwardMetrics | None
    slope: float
    forward_rows: Codes
    forward_scores: Floats
    forward_outcomes: Truth
    skipped: Mapping[str, str]


def train(
    rows: Sequence[Attributes],
    outcome: str,
    spec: FeatureSpec | None = None,
    *,
    exclude: Iterable[str] = (),
    trusted: Iterable[str] = (),
    fit: Fit | None = None,
    floor: RuleSet | None = None,
) -> TrainReport:
    """Train on rows in the order of time, oldest first. The same rows give the same model, bit for bit.

    Args:
        rows: flat mappings, each with the outcome's column (yes/no, true/false, 1/0, won/lost).
        outcome: the outcome's column.
        spec: features to use; learned from the rows when absent.
        exclude: columns to leave out of a learned spec.
        trusted: features known to be no leak although one alone nearly tells the outcome.
        fit: strength and periods.
        floor: rules to measure on the same forward folds.

    Raises:
        InvalidInput: too few rows, one kind of outcome only, an outcome that is absent or unreadable, no feature.
        LeakingFeature: a feature is known only after the outcome, or tells it nearly by itself.
    """
    truth = read_outcomes(rows, outcome)
    _check_enough(truth)
    used = spec or learn_spec(rows, outcome=outcome, exclude=exclude)
    if not used.features:
        raise InvalidInput("No column is fit to be a feature: give columns that differ between leads.")
    if outcome in {feature.name for feature in used.features}:
        raise LeakingFeature(f"{outcome!r} is the outcome: take it out of the features.")
    codes = np.array([used.encode(row) for row in rows], dtype=np.int64)
    _refuse_leaks(used.features, codes, truth, frozenset(trusted), outcome)
    report = _fitted(used, codes, truth, outcome, fit or Fit())
    return report if floor is None else _beside(report, floor, rows)


def read_outcomes(rows: Sequence[Attributes], outcome: str) -> Truth:
    """The outcome of each row.

    Raises:
        InvalidInput: the column is absent, or a row (counted from 1) holds neither a yes nor a no.
    """
    if rows and not any(outcome in row for row in rows):
        raise InvalidInput(
            f"No row has the outcome column {outcome!r}: name the column that says what became of a lead."
        )
    truth = np.zeros(len(rows), dtype=np.bool_)
    for index, row in enumerate(rows):
        level = as_level(row.get(outcome))
        if level not in POSITIVE and level not in NEGATIVE:
            raise InvalidInput(f"Row {index + 1}: the outcome {outcome!r} is {row.get(outcome)!r}; write yes or no.")
        truth[index] = level in POSITIVE
    return truth


def _check_enough(truth: Truth) -> None:
    if truth.size < MIN_ROWS:
        raise InvalidInput(f"{truth.size} rows are too few to train on: give at least {MIN_ROWS} past leads.")
    positives = int(truth.sum())
    for count, kind in ((positives, "converted"), (truth.size - positives, "did not convert")):
        if count < MIN_OF_EACH:
            raise InvalidInput(
                f"Only {count} of {truth.size} leads {kind}: training needs at least {MIN_OF_EACH} of each kind."
            )


def _refuse_leaks(
    features: tuple[Feature, ...], codes: Codes, truth: Truth, trusted: frozenset[str], outcome: str
) -> None:
    """A feature that alone ranks almost perfectly is the outcome under another name."""
    for index, feature in enumerate(features):
        column = codes[:, index]
        seen = np.bincount(column, minlength=feature.size)
        rates = np.bincount(column, weights=truth, minlength=feature.size) / np.maximum(seen, 1)
        alone = roc_auc(rates[column], truth)
        if alone >= _LEAK_AUC and feature.name not in trusted:
            raise LeakingFeature(
                f"{feature.name!r} alone tells {outcome!r} (ROC-AUC {alone:.2f}): leave it out, or name it as "
                "trusted if it is known before the outcome."
            )


def _fitted(spec: FeatureSpec, codes: Codes, truth: Truth, outcome: str, fit: Fit) -> TrainReport:
    folds = _forward_folds(spec, codes, truth, fit)
    slope = _shared_slope(folds)
    judged = np.array([row for fold in folds for row in fold.rows], dtype=np.int64)
    scores, outcomes = _forward_scores(folds, slope), truth[judged]
    weights = [part * slope for part in _weights(spec.features, codes, truth, fit)]
    evidence = _evidence(weights, codes)
    latest = _latest(truth.size)
    model = ScoreModel(
        intercept=fit_intercept(evidence[latest], truth[latest]),
        features=spec.features,
        weights=tuple(tuple(map(float, part)) for part in weights),
        training=Training(truth.size, int(truth.sum()), outcome),
    )
    return TrainReport(
        model=model,
        metrics=forward_metrics(scores, outcomes),
        floor=None,
        slope=slope,
        forward_rows=judged,
        forward_scores=scores,
        forward_outcomes=outcomes,
        skipped=dict(spec.skipped),
    )


def _beside(report: TrainReport, floor: RuleSet, rows: Sequence[Attributes]) -> TrainReport:
    scores = np.array([floor.score(rows[row]).probability for row in report.forward_rows], dtype=np.float64)
    return replace(report, floor=forward_metrics(scores, report.forward_outcomes))


def _weights(features: tuple[Feature, ...], codes: Codes, truth: Truth, fit: Fit) -> list[Floats]:
    """Weights of each feature's bins, centred on the rows; 0 for a bin that no row fell into."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    rows = truth.size
    sizes = [feature.size for feature in features]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    # Counted from the end, so that the latest period is a full one.
    periods = (rows - 1 - np.arange(rows)) // fit.period_rows
    columns = np.column_stack([codes + starts[:-1], starts[-1] + periods])
    values = np.ones(columns.shape)
    values[:, -1] = _PERIOD_SCALE
    shape = (rows, int(starts[-1] + periods[0] + 1))
    design = csr_matrix((values.ravel(), columns.ravel(), np.arange(rows + 1) * columns.shape[1]), shape=shape)
    solver = LogisticRegression(C=fit.strength, max_iter=1000)
    coefficients = solver.fit(design, truth).coef_[0]
    return [
        _centred(coefficients[start : start + size], np.bincount(codes[:, index], minlength=size))
        for index, (start, size) in enumerate(zip(starts[:-1], sizes, strict=True))
    ]


def _centred(weights: Floats, seen: NDArray[np.int64]) -> Floats:
    mean = float(weights @ seen) / int(seen.sum())
    return np.asarray(np.where(seen > 0, weights - mean, 0.0), dtype=np.float64)


def _evidence(weights: Sequence[Floats], codes: Codes) -> Floats:
    columns = [part[codes[:, index]] for index, part in enumerate(weights)]
    return np.asarray(np.sum(columns, axis=0), dtype=np.float64)


def _latest(rows: int) -> slice:
    return slice(max(0, rows - max(_LATEST_AT_LEAST, round(rows * _LATEST_SHARE))), rows)


@dataclass(frozen=True, slots=True)
class _Fold:
    """A stretch of the history, seen by a model of what came before it (`before`: that model's latest slice)."""

    rows: range
    evidence: Floats
    outcomes: Truth
    evidence_before: Floats
    outcomes_before: Truth


def _forward_folds(spec: FeatureSpec, codes: Codes, truth: Truth, fit: Fit) -> list[_Fold]:
    rows = truth.size
    cuts = np.linspace(rows - round(rows * _FOLDS_SHARE), rows, _FOLDS + 1).astype(int)
    folds = []
    for start, end in pairwise(cuts):
        if not 0 < truth[:start].sum() < start:
            continue
        evidence = _evidence(_weights(spec.features, codes[:start], truth[:start], fit), codes[:end])
        before = _latest(int(start))
        folds.append(_Fold(range(start, end), evidence[start:], truth[start:end], evidence[before], truth[before]))
    return folds


def _shared_slope(folds: list[_Fold]) -> float:
    """One factor for all folds, each with an intercept of its own; a prior at 1 steadies thin histories."""
    from scipy.optimize import minimize

    def loss(parameters: Floats) -> float:
        total = ((parameters[0] - 1) / _SLOPE_PRIOR_SD) ** 2 / 2
        for fold, intercept in zip(folds, parameters[1:], strict=True):
            log_odds = parameters[0] * fold.evidence + intercept
            total += float((np.logaddexp(0, log_odds) - fold.outcomes * log_odds).sum())
            total += intercept**2 / 200
        return float(total)

    start = np.array([1.0, *(fit_intercept(fold.evidence, fold.outcomes) for fold in folds)])
    return max(0.0, float(minimize(loss, start, method="BFGS").x[0]))


def _forward_scores(folds: list[_Fold], slope: float) -> Floats:
    scores = [
        probabilities(slope * fold.evidence + fit_intercept(slope * fold.evidence_before, fold.outcomes_before))
        for fold in folds
    ]
    return np.concatenate([np.array([], dtype=np.float64), *scores])


def forward_metrics(scores: Floats, outcomes: Truth) -> ForwardMetrics | None:
    """The quality of these scores; None where there is only one kind of outcome."""
    if not 0 < outcomes.sum() < outcomes.size:
        return None
    return ForwardMetrics(
        rows=outcomes.size,
        roc_auc=roc_auc(scores, outcomes),
        top_decile_lift=top_decile_lift(scores, outcomes),
        calibration_error=expected_calibration_error(scores, outcomes),
        brier=brier(scores, outcomes),
    )
