"""The options of decision 0004, compared inside the training part: the judged contacts are never read.

Eight models of the first 10,000, 12,500, .. 27,500 contacts, each judged on the 2,500 that follow.
Run from the project's root: `uv run python docs/decisions/0004-lead-score-study.py [FOLDER OF THE DATA]`.
"""

import sys
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from app.packs.leads.scoring.bank import LEFT_OUT, OUTCOME, bank_rules
from app.packs.leads.scoring.calibration import fit_intercept, probabilities
from app.packs.leads.scoring.evaluation import read_contacts
from app.packs.leads.scoring.features import Attributes, as_number, learn_spec
from app.packs.leads.scoring.metrics import brier, roc_auc, top_decile_lift
from app.packs.leads.scoring.train import Fit, read_outcomes, train

TRAINING_PART = 30_000
CUTS = range(10_000, TRAINING_PART, 2_500)
CALENDAR = ("day", "month")

Floats = NDArray[np.float64]
Ranker = Callable[[list[Attributes], list[Attributes]], Floats]


def additive(exclude: Iterable[str] = LEFT_OUT, fit: Fit | None = None) -> Ranker:
    def rank(past: list[Attributes], later: list[Attributes]) -> Floats:
        spec = learn_spec(past, outcome=OUTCOME, exclude=exclude, include=CALENDAR)
        model = train(past, OUTCOME, spec, fit=fit).model
        return np.array([model.evidence(row) for row in later])

    return rank


def recent_first(half_life: float) -> Ranker:
    """Logistic regression over the same bins, a row's weight halved every `half_life` rows back."""

    def rank(past: list[Attributes], later: list[Attributes]) -> Floats:
        spec = learn_spec(past, outcome=OUTCOME, exclude=LEFT_OUT)
        encoder = OneHotEncoder(handle_unknown="ignore")
        bins = encoder.fit_transform([spec.encode(row) for row in past])
        weight = 0.5 ** (np.arange(len(past), 0, -1) / half_life)
        model = LogisticRegression(C=0.1, max_iter=1000).fit(bins, read_outcomes(past, OUTCOME), weight)
        return np.asarray(model.decision_function(encoder.transform([spec.encode(row) for row in later])))

    return rank


def trees(leaves: int, rounds: int) -> Ranker:
    """Gradient boosting on the raw numbers and the coded levels."""

    def rank(past: list[Attributes], later: list[Attributes]) -> Floats:
        spec = learn_spec(past, outcome=OUTCOME, exclude=LEFT_OUT)

        def table(rows: list[Attributes]) -> Floats:
            cells = [
                [as_number(row[f.name]) if f.kind == "numeric" else f.bin(row[f.name]) for f in spec.features]
                for row in rows
            ]
            return np.array(cells, dtype=np.float64)

        model = HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=rounds,
            max_leaf_nodes=leaves,
            min_samples_leaf=100,
            l2_regularization=5,
            categorical_features=[feature.kind == "categorical" for feature in spec.features],
            random_state=0,
        )
        model.fit(table(past), read_outcomes(past, OUTCOME))
        return np.asarray(model.decision_function(table(later)))

    return rank


def rules(_: list[Attributes], later: list[Attributes]) -> Floats:
    return np.array([sum(part.log_odds for part in bank_rules().score(row).contributions) for row in later])


OPTIONS: dict[str, Ranker] = {
    "additive, period intercepts (chosen)": additive(),
    "without period intercepts": additive(fit=Fit(period_rows=TRAINING_PART)),
    "with the way of contact": additive(LEFT_OUT - {"contact"}),
    "with day and month": additive(LEFT_OUT - set(CALENDAR)),
    "without age and marital status": additive(LEFT_OUT | {"age", "marital"}),
    "a row's weight halved every 4,000 rows": recent_first(4_000),
    "a row's weight halved every 12,000 rows": recent_first(12_000),
    "trees, 8 leaves, 150 rounds": trees(8, 150),
    "trees, 6 leaves, 60 rounds": trees(6, 60),
    "trees, stumps, 300 rounds": trees(2, 300),
    "rules only": rules,
}


def judged(rank: Ranker, rows: list[Attributes]) -> NDArray[np.float64]:
    """ROC-AUC, lift and Brier score of each fold; the level is set right in all, so Brier compares shapes only."""
    figures = []
    for cut in CUTS:
        later = rows[cut : cut + CUTS.step]
        truth = read_outcomes(later, OUTCOME)
        evidence = rank(rows[:cut], later)
        stated = probabilities(evidence + fit_intercept(evidence, truth))
        figures.append((roc_auc(stated, truth), top_decile_lift(stated, truth), brier(stated, truth)))
    return np.array(figures)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    rows = list(islice(read_contacts(folder), TRAINING_PART))
    view = Table("option", "ROC-AUC", "worst fold", "top-decile lift", "Brier")
    for name, rank in OPTIONS.items():
        figures = judged(rank, rows)
        auc, lift, error = figures.mean(axis=0)
        view.add_row(name, f"{auc:.3f}", f"{figures[:, 0].min():.3f}", f"{lift:.2f}", f"{error:.5f}")
    Console(width=110).print(view)


if __name__ == "__main__":
    main()
