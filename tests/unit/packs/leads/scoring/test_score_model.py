import math
import subprocess
import sys
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import TrellisError
from app.packs.leads.scoring.features import CategoricalFeature, NumericFeature
from app.packs.leads.scoring.model import BadScoreModel, ScoreModel, Training, sigmoid

MODEL = ScoreModel(
    intercept=-1.5,
    features=(NumericFeature("employees", (10.0, 100.0)), CategoricalFeature("source", ("event", "referral"))),
    weights=((-0.4, 0.1, 0.6, 0.0), (0.2, 0.9, -0.1, -0.3)),
    training=Training(rows=500, positives=60, outcome="won"),
)


def test_a_score_adds_the_weights_of_the_leads_bins_and_lists_the_largest_first():
    score = MODEL.score({"employees": "1,000", "source": "Referral"})
    assert score.probability == pytest.approx(1 / (1 + math.exp(1.5 - 0.6 - 0.9)))
    assert score.contributions == (("source", "Referral", 0.9), ("employees", "1,000", 0.6))
    assert score.baseline == -1.5


def test_missing_and_unreadable_values_use_the_missing_bin_and_unknown_ones_are_ignored():
    score = MODEL.score({"employees": "lots", "colour": "red"})
    assert {name: weight for name, _, weight in score.contributions} == {"employees": 0.0, "source": -0.3}
    assert score.contributions[0].value == "missing"


@given(
    st.dictionaries(
        st.sampled_from(["employees", "source", "x"]),
        st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.lists(st.text()), st.booleans()),
    )
)
def test_contributions_and_baseline_always_add_up_to_the_probability(attributes):
    score = MODEL.score(attributes)
    total = score.baseline + sum(part.log_odds for part in score.contributions)
    assert score.probability == pytest.approx(sigmoid(total))
    assert total == pytest.approx(MODEL.intercept + MODEL.evidence(attributes))
    sizes = [abs(part.log_odds) for part in score.contributions]
    assert sizes == sorted(sizes, reverse=True)


@given(st.floats(-1e6, 1e6))
def test_the_sigmoid_stays_within_0_and_1(log_odds):
    assert 0 <= sigmoid(log_odds) <= 1
    assert sigmoid(log_odds) + sigmoid(-log_odds) == pytest.approx(1)


def test_an_artifact_reads_back_as_the_same_model():
    assert ScoreModel.from_json(MODEL.to_json()) == MODEL
    assert ScoreModel.from_json(MODEL.to_json()).version == MODEL.version


def test_the_version_changes_with_any_weight():
    assert replace(MODEL, intercept=-1.4).version != MODEL.version


def _broken(**changes):
    return orjson.dumps({**orjson.loads(MODEL.to_json()), **changes})


@pytest.mark.parametrize(
    ("artifact", "named"),
    [
        (b"", "the document"),
        (b"[]", "the document"),
        (b"\xff\xfe", "the document"),
        (_broken(schema="trellis.lead-score/9"), "schema"),
        (_broken(intercept="high"), "intercept"),
        (_broken(intercept=None), "intercept"),
        (_broken(surprise=1), "surprise"),
        (_broken(weights=[[0.1]]), "exactly one weight"),
        (_broken(weights=[[0, 0, 0, 0], [0, 0, 0, "x"]]), "weights.1.3"),
        (_broken(training={"rows": 0, "positives": 1, "outcome": "won"}), "training.rows"),
        (_broken(features=[{"name": "n", "kind": "tree", "edges": []}]), "features.0"),
        (
            _broken(
                features=[{"name": "duration", "kind": "numeric", "edges": []}],
                weights=[[0, 0]],
            ),
            "known only after the outcome",
        ),
        (_broken(features=[{"name": "n", "kind": "numeric", "edges": [2, 1]}], weights=[[0] * 4]), "must rise"),
        (MODEL.to_json().replace(b"-1.5", b"1e999"), "intercept"),
    ],
)
def test_a_bad_artifact_is_refused_with_a_sentence_that_names_the_fault(artifact, named):
    with pytest.raises(BadScoreModel) as caught:
        ScoreModel.from_json(artifact, source="score.json")
    assert isinstance(caught.value, TrellisError)
    assert named in caught.value.detail
    assert caught.value.detail.startswith("score.json is no lead score")


def test_serving_imports_neither_scikit_learn_nor_scipy(tmp_path):
    path = tmp_path / "score.json"
    path.write_bytes(MODEL.to_json())
    program = (
        "import sys; from pathlib import Path; from app.packs.leads.scoring.model import ScoreModel;"
        "from app.packs.leads.scoring.rules import lead_rules; from app.packs.leads.scoring.train import train;"
        f"ScoreModel.from_json(Path({str(path)!r}).read_bytes()).score({{'employees': 5}}); lead_rules().score({{}});"
        "sys.exit(','.join({m.split('.')[0] for m in sys.modules} & {'sklearn', 'scipy'}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
