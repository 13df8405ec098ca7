"""The search for the rate at which a replica leaves its targets: judgement, steps, what is kept, what is written."""

import asyncio
import math
import random
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.capacity import load
from infra.phases import PHASES, PhaseName
from loadtest.capacity.__main__ import main
from loadtest.capacity.finding import Disturbed, find, found, measured, search_of, seconds
from loadtest.capacity.judge import Look, Step, judge
from loadtest.capacity.kept import Kept, KeptError
from loadtest.capacity.picture import draw
from loadtest.capacity.promise import beyond, for_replicas
from loadtest.capacity.search import LOOKS, Search, Trial, decided, edge, next_factor
from loadtest.capacity.written import steps_table, verdict, write
from loadtest.measure import REST
from loadtest.results import EndpointResult, Kind, PartUse, Quantiles, ScenarioResult
from loadtest.stub.pace import HOSTED, alone
from tests.support.examples import examples

SMALL = PHASES[PhaseName.SMALL]
IN, OUT = Look(True, True), Look(False, True)
PERHAPS_IN, PERHAPS_OUT = Look(True, False), Look(False, False)
knees = st.floats(0.05, 500)


def quantiles(*, p50=0.3, count=1000):
    return Quantiles(count, p50, p50, 2 * p50, 3 * p50, 4 * p50)


def a_step(*, factor=6.0, asked=1000, failed=0, slow=0, p50=0.3, own_slow=0, dropped=0, aborted="", rest=0.0):
    questions = EndpointResult(
        Kind.QUESTION, asked, failed, asked - failed - slow, quantiles(p50=p50, count=asked - failed)
    )
    endpoints = (replace(questions, kind=Kind.CHAT), EndpointResult(Kind.LEAD, 15, 0, 15, quantiles(count=15)))
    parts = (PartUse("api", 60.0, 0.3, 400.0), PartUse("worker", 10.0, 0.05, 300.0), PartUse(REST, 0.0, rest, 0.0))
    result = ScenarioResult(
        name="step",
        factor=factor,
        began=100.0,
        ended=200.0,
        endpoints=endpoints,
        dropped=dropped,
        own_share=None,
        parts=parts,
        checks=(),
        model_calls=600,
        aborted=aborted,
        questions=questions,
    )
    return Step(result, own=600, own_slow=own_slow)


# What one step says.


def test_a_healthy_step_is_surely_within():
    assert judge(a_step(), SMALL) == Look(True, True, "", pytest.approx(0.3))


@pytest.mark.parametrize(
    ("step", "sure", "why"),
    [
        (a_step(slow=18), True, "1.80% of 1,000 answers took more than 3 s, at most 1.00% may"),
        (a_step(slow=11), False, "1.10% of 1,000 answers took more than 3 s"),
        (a_step(failed=40), True, "3.94% of 1,015 requests failed, at most 1.00% may"),
        (a_step(dropped=100), True, "8.97% of 1,115 requests failed (100 were never begun), at most 1.00% may"),
        (a_step(p50=1.01), True, "half of the answers took more than 1.01 s, at most 1 s may"),
        (a_step(own_slow=20), True, "3.33% of 600 questions and decisions took more than 0.1 s without their model"),
        (a_step(own_slow=8), False, "1.33% of 600 questions and decisions took more than 0.1 s"),
        (a_step(aborted="p50 < 12"), True, "the step was ended early: p50 < 12"),
        (a_step(asked=3), True, "only 3 questions were asked in time"),
    ],
)
def test_each_target_can_be_left_and_is_named(step, sure, why):
    look = judge(step, SMALL)
    assert (look.within, look.sure) == (False, sure)
    assert look.why.startswith(why)
    assert look.excess > 1


def test_what_left_furthest_is_what_is_named():
    assert "without their model calls" in judge(a_step(p50=1.1, own_slow=60), SMALL).why
    assert "half of the answers" in judge(a_step(p50=19.0, own_slow=60), SMALL).why


def test_few_questions_without_a_slow_one_are_within_and_not_sure():
    assert judge(a_step(asked=300), SMALL).sure is False
    assert judge(a_step(asked=400), SMALL).sure is True


def test_a_phase_without_a_p99_is_judged_by_its_median():
    assert judge(a_step(slow=900, p50=2.9), PHASES[PhaseName.POC]).within
    assert not judge(a_step(p50=3.1), PHASES[PhaseName.POC]).within


# Which rate is next.


@pytest.mark.parametrize(
    ("looks", "within"),
    [
        ([], None),
        ([IN], True),
        ([OUT], None),
        ([OUT, OUT], False),
        ([OUT, IN], None),
        ([OUT, IN, IN], True),
        ([OUT, IN, OUT], False),
        ([PERHAPS_IN], None),
        ([PERHAPS_OUT, IN], True),
        ([PERHAPS_OUT, PERHAPS_IN, PERHAPS_IN], True),
        ([PERHAPS_OUT, PERHAPS_IN, PERHAPS_OUT], False),
    ],
)
def test_one_step_within_is_believed_and_one_that_is_out_is_tried_again(looks, within):
    assert decided(looks) is within


def searched(search, server, limit=200):
    trials = []
    while (factor := next_factor(search, trials)) is not None:
        trials.append(Trial(factor, server(factor)))
        assert len(trials) < limit
    return trials


@settings(max_examples=examples(60))
@given(knee=knees, first=st.floats(0.1, 50), resolution=st.floats(0.02, 0.5))
def test_a_knee_is_found_to_the_resolution(knee, first, resolution):
    search = Search(first, resolution=resolution, lowest=0.01)
    trials = searched(search, lambda factor: IN if factor <= knee else OUT)
    found = edge(trials)
    assert found.low <= knee < found.high
    assert found.high <= found.low * (1 + resolution) * (1 + 1e-9)
    steps = abs(math.log2(knee / first)) + 2 + math.log2(1 / math.log2(1 + resolution)) + 1
    assert len(trials) <= 2 * steps


@settings(max_examples=examples(60))
@given(knee=knees, disturbed=st.integers(0, 40))
def test_a_disturbed_step_now_and_then_moves_nothing(knee, disturbed):
    """A burst makes one step look out; the next looks at the same rate see that it is not."""
    asked = iter(range(10_000))

    def server(factor):
        return IN if factor <= knee and next(asked) != disturbed else OUT

    search = Search(6.0, lowest=0.01)
    assert edge(searched(search, server)) == edge(searched(search, lambda factor: IN if factor <= knee else OUT))


@settings(max_examples=examples(60))
@given(knee=knees, seed=st.integers(0, 10_000))
def test_noise_at_the_knee_ends_the_search_near_it(knee, seed):
    """Within a quarter of the knee a step says one or the other by chance, and is not sure."""
    chance = random.Random(seed)

    def server(factor):
        if abs(math.log(factor / knee)) > math.log(1.25):
            return IN if factor < knee else OUT
        return Look(chance.random() < 0.5, False)

    search = Search(6.0, lowest=0.01)
    trials = searched(search, server)
    found = edge(trials)
    assert knee / 1.25 / (1 + search.resolution) <= found.low <= knee * 1.25
    assert all([trial.factor for trial in trials].count(factor) <= LOOKS for factor in {t.factor for t in trials})


def test_a_replica_that_never_leaves_and_one_that_never_keeps_its_targets_end_the_search():
    always = searched(Search(6.0, highest=40.0), lambda _factor: IN)
    assert [trial.factor for trial in always] == [6.0, 12.0, 24.0, 40.0]
    assert edge(always).high is None
    never = searched(Search(6.0, lowest=1.0), lambda _factor: OUT)
    assert [trial.factor for trial in never] == [6.0, 6.0, 3.0, 3.0, 1.5, 1.5, 1.0, 1.0]
    assert edge(never).low == 0.0


def test_a_search_goes_on_from_what_was_seen():
    def server(factor):
        return IN if factor <= 17 else OUT

    search = Search(6.0)
    trials = searched(search, server)
    for length in range(len(trials)):
        assert next_factor(search, trials[:length]) == trials[length].factor


def test_a_search_that_cannot_end_is_refused():
    for wrong in ({"growth": 1.0}, {"resolution": 0.0}, {"lowest": 7.0}, {"highest": 5.0}):
        with pytest.raises(ValueError, match="A search grows"):
            Search(6.0, **wrong)


# What is kept, and what is made of it.


def server(knee):
    """Answers as a replica would that serves `knee` times its share: within below, slow above."""

    async def ask(factor, seconds):
        asked.append((factor, seconds))
        return a_step(factor=factor) if factor <= knee else a_step(factor=factor, slow=300)

    asked = []
    return ask, asked


def kept_in(folder, **how):
    about = {"phase": "small", "revision": "abc", "machine": "m", "search": search_of(SMALL, 2.0, 0.1), **how}
    return Kept(folder, **about)


async def test_a_search_that_was_interrupted_goes_on_with_its_steps(tmp_path):
    ask, asked = server(knee=20)

    async def dies(factor, seconds):
        if len(asked) == 3:
            raise asyncio.CancelledError
        return await ask(factor, seconds)

    with pytest.raises(asyncio.CancelledError):
        await find(SMALL, kept_in(tmp_path), kept_in(tmp_path).open(), dies, print)
    before = kept_in(tmp_path).open()
    assert len(before) == 3
    steps = await find(SMALL, kept_in(tmp_path), before, ask, print)
    whole, _ = server(knee=20)
    assert steps == await find(SMALL, kept_in(tmp_path / "other"), kept_in(tmp_path / "other").open(), whole, print)
    assert kept_in(tmp_path).open() == steps
    # Nothing is left to ask.
    assert await find(SMALL, kept_in(tmp_path), steps, dies, print) == steps


async def test_a_step_that_is_out_while_something_else_has_the_machine_is_not_counted(tmp_path):
    whole, asked = server(knee=20)
    alone = await find(SMALL, kept_in(tmp_path / "alone"), kept_in(tmp_path / "alone").open(), whole, print)
    calm = len(asked)

    async def busy_now_and_then(factor, _seconds):
        asked.append(factor)
        if len(asked) % 2:
            return a_step(factor=factor, aborted="p50 < 12", rest=0.8)
        return a_step(factor=factor, slow=0 if factor <= 20 else 300, rest=0.8 if factor <= 20 else 0.1)

    asked.clear()
    kept_in(tmp_path / "busy").open()
    steps = await find(SMALL, kept_in(tmp_path / "busy"), (), busy_now_and_then, print)
    assert [step.result.factor for step in steps] == [step.result.factor for step in alone]
    assert len(asked) == 2 * calm


async def test_a_machine_that_stays_busy_ends_the_search_with_its_steps_kept(tmp_path):
    async def busy_from_now_on(factor, _seconds):
        return a_step(factor=factor, slow=0 if factor < 7 else 300, rest=0.8)

    kept_in(tmp_path).open()
    with pytest.raises(Disturbed, match="something else used 80% of the machine: run it again"):
        await find(SMALL, kept_in(tmp_path), (), busy_from_now_on, print)
    assert [step.result.factor for step in kept_in(tmp_path).open()] == [pytest.approx(6.0)]


def test_steps_of_another_search_are_not_taken_for_ones_own(tmp_path):
    kept = kept_in(tmp_path)
    kept.open()
    kept.add(1, a_step())
    for other in ({"phase": "medium"}, {"revision": "def"}, {"machine": "n"}, {"search": search_of(SMALL, 2.0, 0.2)}):
        with pytest.raises(KeptError, match="another phase, revision or machine"):
            kept_in(tmp_path, **other).open()
    kept.forget()
    assert kept_in(tmp_path, revision="def").open() == ()


def test_a_folder_with_other_files_or_broken_steps_is_refused(tmp_path):
    (tmp_path / "step-001.json").write_text("{}")
    with pytest.raises(KeptError, match="holds files that are no search's"):
        kept_in(tmp_path).open()
    kept_in(tmp_path / "new").open()
    (tmp_path / "new" / "step-001.json").write_text("{}")
    with pytest.raises(KeptError, match="cannot be read"):
        kept_in(tmp_path / "new").open()


def test_a_step_is_long_enough_for_a_p99_and_for_a_slow_overload_to_show():
    share = 5 / 3
    assert seconds(SMALL, 6.0, 0.1) == math.ceil(1020 / (6 * share))
    assert seconds(SMALL, 1000.0, 0.1) == 30
    assert seconds(SMALL, 1000.0, 1.0) == 20


async def found_at(folder, knee):
    ask, _ = server(knee)
    steps = await find(SMALL, kept_in(folder), kept_in(folder).open(), ask, print)
    return steps, found(SMALL, steps)


async def test_what_was_found_is_the_edge_the_last_step_within_and_what_left_first(tmp_path):
    _, result = await found_at(tmp_path, knee=20)
    assert 18 < result.edge.low <= 20 < result.edge.high
    assert result.best.result.factor == result.edge.low
    assert result.left == "30.00% of 1,000 answers took more than 3 s, at most 1.00% may"


async def test_the_file_gets_the_phases_figures_and_keeps_the_others(tmp_path):
    _, result = await found_at(tmp_path / "steps", knee=20)
    figures = measured(SMALL, result, "m", 2, date(2026, 11, 22), "")
    assert figures.questions_s == round(result.edge.low * 5 / 3, 2)
    assert figures.leads_s == round(result.edge.low * SMALL.load.leads_s / 3, 3)
    # 60 s of CPU in the step's 100 s and the 5 s of its warm-up.
    assert figures.api_cores == round(60 / 105, 3)
    file = tmp_path / "capacity.json"
    write(PHASES[PhaseName.MEDIUM], figures, file)
    write(SMALL, figures, file)
    assert list(load(file)) == [PhaseName.MEDIUM, PhaseName.SMALL]
    assert load(file)[PhaseName.SMALL] == figures
    said = list(verdict(SMALL, result, figures))
    assert said[0].startswith(f"One replica of 'small' carries {figures.questions_s:g} questions")
    assert result.left in said[0]
    assert len(said) == 6


async def test_replicas_that_do_not_suffice_are_said_with_the_figures(tmp_path):
    _, result = await found_at(tmp_path, knee=0.9)
    said = verdict(SMALL, result, measured(SMALL, result, "m", 2, date(2026, 11, 22), ""))
    assert any("take 4 or promise more CPU, in infra/phases.py" in sentence for sentence in said)
    slow = measured(SMALL, result, "m", 2, date(2026, 11, 22), "The model is slow.")
    assert verdict(SMALL, result, slow)[-1] == "The model is slow."


async def test_a_replica_that_keeps_its_targets_at_no_rate_is_said_so(tmp_path):
    _, result = await found_at(tmp_path, knee=0.0)
    figures = measured(SMALL, result, "m", 2, date(2026, 11, 22), "")
    assert (figures.questions_s, figures.api_cores) == (0.0, 0.0)
    assert "kept its targets at no rate that was tried: 30.00%" in verdict(SMALL, result, figures)[0]


def test_what_the_model_alone_leaves_is_not_counted_and_is_told():
    slow = replace(HOSTED, name="slow", first_s=1.1)
    phase = for_replicas(SMALL, slow)
    assert phase.targets.answer_p50_s == pytest.approx(alone(slow, 0.5) + 0.1)
    assert phase.targets.answer_p99_s == SMALL.targets.answer_p99_s
    assert judge(a_step(p50=1.5), phase).within
    assert not judge(a_step(p50=1.5), SMALL).within
    assert not judge(a_step(own_slow=60), phase).within
    assert "'small' (pace 'slow') alone leaves the promised p50 of 1 s (1.5" in beyond(SMALL, slow)
    slower = replace(HOSTED, name="slower", first_s=4.0)
    assert for_replicas(SMALL, slower).targets.answer_p99_s is None
    assert "and p99 of 3 s" in beyond(SMALL, slower)


def test_what_the_model_leaves_room_for_is_judged_as_promised():
    assert for_replicas(SMALL, HOSTED) == SMALL
    assert beyond(SMALL, HOSTED) == ""


async def test_the_table_and_the_picture_have_every_step(tmp_path):
    steps, result = await found_at(tmp_path / "steps", knee=20)
    assert steps_table(SMALL, steps).row_count == len(steps)
    picture = draw(SMALL, steps, result, "told", tmp_path / "pictures" / "one.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "Say which phase: make capacity PHASE=small"),
        (["--phase", "smal"], "There is no phase 'smal'"),
        (["--growth", "--most", "10"], "MOST=10 leaves nothing to compare"),
    ],
)
def test_what_cannot_be_run_is_one_sentence_and_exit_code_2(given, said, capsys):
    assert main(given) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
