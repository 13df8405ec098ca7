import numpy as np
import pytest

from app.errors import InvalidInput
from app.packs.leads.scoring.features import (
    CategoricalFeature,
    FeatureSpec,
    LeakingFeature,
    NumericFeature,
    learn_spec,
)
from app.packs.leads.scoring.metrics import expected_calibration_error, roc_auc
from app.packs.leads.scoring.rules import lead_rules
from app.packs.leads.scoring.train import train
from tests.unit.packs.leads.scoring.factory import leads


def test_a_trained_score_ranks_and_is_calibrated_on_later_leads():
    rows = leads(4000)
    report = train(rows[:3000], "won", floor=lead_rules())
    later = rows[3000:]
    outcomes = [row["won"] == "yes" for row in later]
    scores = [report.model.score(row).probability for row in later]
    assert roc_auc(scores, outcomes) > 0.68
    assert expected_calibration_error(scores, outcomes) < 0.06
    assert report.metrics is not None
    assert report.metrics.rows == 1000
    assert report.metrics.roc_auc > 0.68
    assert report.floor is not None
    assert report.floor.rows == 1000
    assert report.floor.brier > report.metrics.brier


def test_weights_say_what_converts_relative_to_an_average_lead():
    model = train(leads(3000), "won").model
    best = model.score({"employees": 4000, "source": "referral", "budget_usd": 5000})
    worst = model.score({"employees": 3, "source": "import", "budget_usd": 5000})
    assert best.probability > 0.5 > 0.2 > worst.probability
    assert {part.feature for part in best.contributions[:2]} == {"employees", "source"}
    assert min(part.log_odds for part in best.contributions[:2]) > 0 > worst.contributions[0].log_odds
    means = [
        np.mean([{f: w for f, _, w in model.score(row).contributions}[name] for row in leads(3000)])
        for name in ("employees", "source", "budget_usd")
    ]
    assert means == pytest.approx([0, 0, 0], abs=1e-9)


def test_training_twice_gives_the_same_artifact_byte_for_byte():
    assert train(leads(), "won").model.to_json() == train(leads(), "won").model.to_json()


def test_the_intercept_follows_the_latest_base_rate():
    rows = leads(3000, late_shift=0.3)
    model = train(rows, "won").model
    latest = rows[-500:]
    stated = np.mean([model.score(row).probability for row in latest])
    assert stated == pytest.approx(np.mean([row["won"] == "yes" for row in latest]), abs=0.02)


def test_a_feature_that_only_marks_the_period_earns_little_weight():
    rows = leads(4000, late_shift=0.3)
    for index, row in enumerate(rows):
        row["channel"] = "new" if index >= 2000 else "old"
    model = train(rows, "won").model
    spread = {feature.name: np.ptp(weights) for feature, weights in zip(model.features, model.weights, strict=True)}
    assert spread["channel"] < 0.25 * spread["source"]


def test_forward_scores_are_outcomes_of_the_last_third_in_order():
    rows = leads(900)
    report = train(rows, "won")
    assert list(report.forward_rows) == list(range(600, 900))
    assert list(report.forward_outcomes) == [row["won"] == "yes" for row in rows[600:]]
    assert ((report.forward_scores > 0) & (report.forward_scores < 1)).all()


def test_forward_scores_never_depend_on_later_outcomes_except_through_the_slope():
    rows = leads(900)
    flipped = [dict(row, won="no" if row["won"] == "yes" else "yes") for row in rows[825:]]
    first, second = train(rows, "won"), train([*rows[:825], *flipped], "won")

    def order(report):
        return np.argsort(report.forward_scores[:75], kind="stable").tolist()

    assert order(first) == order(second)


def test_a_forward_fold_is_calibrated_on_what_came_before_it_not_on_itself():
    rows = [dict(row, won="yes") if index >= 825 else row for index, row in enumerate(leads(900))]
    earlier = np.mean([row["won"] == "yes" for row in rows[:825]])
    assert train(rows, "won").forward_scores[-75:].mean() == pytest.approx(earlier, abs=0.1)


def test_a_value_never_seen_in_training_says_nothing():
    model = train(leads(), "won", FeatureSpec((CategoricalFeature("source", ("referral", "unheard of")),))).model
    assert model.score({"source": "unheard of"}).contributions[0].log_odds == 0
    assert model.score({}).contributions[0].log_odds == 0


def test_outcomes_may_be_written_in_several_ways():
    written = {"yes": True, "no": False}
    plain = train(leads(), "won").model
    for yes, no in ((True, False), (1, 0), ("Won", "LOST"), ("1", "0")):
        rows = [dict(row, won=yes if written[row["won"]] else no) for row in leads()]
        assert train(rows, "won").model == plain


def test_too_few_rows_are_refused():
    with pytest.raises(InvalidInput, match="99 rows are too few"):
        train(leads(99), "won")
    with pytest.raises(InvalidInput, match="0 rows are too few"):
        train([], "won")


@pytest.mark.parametrize(
    ("kept", "message"), [("yes", "Only 0 of .* did not convert"), ("no", "Only 0 of .* converted")]
)
def test_one_class_only_is_refused(kept, message):
    with pytest.raises(InvalidInput, match=message):
        train([row for row in leads(2000) if row["won"] == kept], "won")


def test_an_absent_outcome_column_is_named():
    with pytest.raises(InvalidInput, match="outcome column 'closed_won'"):
        train(leads(), "closed_won")


@pytest.mark.parametrize("value", ["maybe", None, 2, [], ""])
def test_an_unreadable_outcome_names_its_row(value):
    rows = leads()
    rows[41]["won"] = value
    with pytest.raises(InvalidInput, match="Row 42: the outcome 'won'"):
        train(rows, "won")


def test_rows_without_any_feature_are_refused():
    with pytest.raises(InvalidInput, match="No column is fit"):
        train([{"won": row["won"], "same": 1} for row in leads()], "won")


def test_a_post_outcome_column_is_never_learned_and_is_refused_when_asked_for():
    rows = [dict(row, duration=index % 70) for index, row in enumerate(leads())]
    report = train(rows, "won")
    assert "duration" not in [feature.name for feature in report.model.features]
    assert report.skipped["duration"] == "known only after the outcome"
    with pytest.raises(LeakingFeature, match="'duration'"):
        train(rows, "won", FeatureSpec((NumericFeature("duration", (10.0,)),)))


def test_a_planted_copy_of_the_outcome_is_refused_unless_it_is_trusted():
    rows = [dict(row, stage="signed" if row["won"] == "yes" else "open") for row in leads()]
    with pytest.raises(LeakingFeature, match="'stage' alone tells 'won'"):
        train(rows, "won")
    assert "stage" in [feature.name for feature in train(rows, "won", trusted=["stage"]).model.features]
    assert "stage" not in [feature.name for feature in train(rows, "won", exclude=["stage"]).model.features]


def test_the_outcome_itself_cannot_be_a_feature():
    rows = [dict(row, deposit=row["won"]) for row in leads()]
    spec = learn_spec(rows, outcome="another")
    assert "deposit" in [feature.name for feature in spec.features]
    with pytest.raises(LeakingFeature, match="'deposit' is the outcome"):
        train(rows, "deposit", spec, trusted=["deposit"])


def test_a_history_whose_conversions_come_last_trains_without_forward_metrics():
    rows = [dict(row, won="yes" if index >= 560 else "no") for index, row in enumerate(leads(600))]
    report = train(rows, "won")
    assert 0 < report.model.score(rows[0]).probability < 1
    assert report.slope >= 0
