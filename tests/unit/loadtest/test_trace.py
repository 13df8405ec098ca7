"""A trace replayed: its bursts, its lengths, a replica's share of requests."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.phases import PHASES
from loadtest.plan import SHARES, mix, questions_s
from loadtest.stub.pace import pace_of
from loadtest.stub.paced import PacedStub
from loadtest.trace import BUCKET_S, QUESTION_WORDS, Row, read_trace, replay
from tests.support.examples import examples

HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
SMALL = PHASES["small"]


@given(gaps=st.lists(st.floats(0.01, 30), min_size=110, max_size=140), seconds=st.sampled_from([30.0, 60.0]))
@settings(max_examples=examples(25))
def test_a_replay_asks_as_much_as_the_share_in_the_time_it_has(gaps: list[float], seconds: float) -> None:
    at, rows = 0.0, []
    for gap in gaps:
        rows.append(Row(at, 1000, 200))
        at += gap
    scenario = replay(SMALL, rows, seconds)
    assert scenario.expected(*SHARES) == pytest.approx(round(questions_s(mix(SMALL)) * seconds))
    assert scenario.seconds - scenario.warm_s == seconds


def test_a_replay_is_busy_where_the_trace_is() -> None:
    rows = [Row(number * 0.1, 10, 10) for number in range(90)] + [Row(100.0 + number, 10, 10) for number in range(10)]
    factors = [stage.factor for stage in replay(SMALL, rows, 60.0).stages[1:]]
    assert len(factors) == 60 / BUCKET_S
    assert factors[0] > 5
    assert factors[3] == 0


def test_words_have_our_means_and_the_traces_proportions() -> None:
    rows = [Row(number * 1.0, 500 if number % 2 else 1500, 100) for number in range(120)]
    lengths = replay(SMALL, rows, 60.0).lengths
    asked = {each for each, _ in lengths}
    assert sum(each for each, _ in lengths) / len(lengths) == pytest.approx(QUESTION_WORDS)
    assert max(asked) == 3 * min(asked)
    assert {each for _, each in lengths} == {pace_of(SMALL).answer_tokens}


def test_a_trace_is_read_in_the_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(HEAD + "2023-11-16 18:15:50.9951690,396,109\n2023-11-16 18:15:46.6805900,374,44\n")
    first, second = read_trace(path)
    assert first == Row(0.0, 374, 44)
    assert second.at_s == pytest.approx(4.314579)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,b\n1,2\n", "its columns are not TIMESTAMP"),
        (HEAD + "2023-11-16 18:15:46.6805900,374,44\n", "holds no two requests"),
        (HEAD + "yesterday,374,44\n", "a row that is none of a trace: yesterday"),
        (HEAD + "2023-11-16 18:15:46,374\n", "a row that is none of a trace"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=why):
        read_trace(path)


def test_a_missing_trace_and_a_short_one_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set TRELLIS_DATA to its folder"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="The trace has 2 requests; phase small needs 100"):
        replay(SMALL, [Row(0, 1, 1), Row(1, 1, 1)], 60.0)


def test_the_models_stub_answers_as_long_as_a_replayed_question_asks_it_to() -> None:
    stub = PacedStub(pace_of(SMALL))
    question = {"role": "user", "content": "How long is leave? Answer in 57 words."}
    message, _usage = stub.said({"model": "stub", "messages": [{"role": "system", "content": "Answer."}, question]})
    assert len(message["content"].split()) == 57
