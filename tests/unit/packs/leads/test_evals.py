"""The evaluation: its figures on made-up decisions, and the real pipeline on the shipped sample."""

import asyncio
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from app.packs.leads.evals import run
from app.packs.leads.evals.cases import Case, holdout_cases, sample_cases
from app.packs.leads.evals.measures import baselines, by_language, confusion, evidence, measure, score_alone
from app.packs.leads.evals.pipeline import Judged
from app.packs.leads.evals.run import Evaluation, evaluate, evaluate_sample, print_judged
from app.packs.leads.facts import ScoreFacts
from app.packs.leads.guardrails import judge
from app.packs.leads.models import Action
from app.packs.leads.schemas import LeadIn
from tests.support.leads import answer, inputs

SLUGS = {path.stem for path in (Path(__file__).parents[4] / "app/packs/leads/sample/knowledge").glob("*.md")}


def case(expected: Action, *acceptable: Action, necessary: bool = False, pages: tuple[str, ...] = ()) -> Case:
    lead = LeadIn(name="Ada", email="ada@brook.example.com", message="Hi", language="de-AT")
    return Case(lead, expected, frozenset(acceptable), necessary, frozenset(pages))


def judged(expected: Action, decided: Action, **changes) -> Judged:
    facts = inputs()
    verdict = replace(judge(facts, answer()), action=decided)
    made = Judged(
        case(expected, pages=("pricing", "faq")), facts, verdict, ("pricing", "shipping"), frozenset({"pricing"}), 1.0
    )
    return replace(made, **changes)


def test_measures_count_exact_acceptable_and_escalations():
    cases = [
        case(Action.RESPOND),
        case(Action.RESPOND, Action.ESCALATE),
        case(Action.ESCALATE, necessary=True),
        case(Action.ESCALATE, necessary=True),
    ]
    found = measure(cases, [Action.RESPOND, Action.ESCALATE, Action.ESCALATE, Action.DISQUALIFY])
    assert (found.exact, found.acceptable) == (0.5, 0.75)
    assert (found.escalation_precision, found.escalation_recall, found.escalated) == (0.5, 0.5, 0.5)


def test_without_escalations_their_precision_is_unknown():
    found = measure([case(Action.RESPOND)], [Action.RESPOND])
    assert (found.escalation_precision, found.escalation_recall) == (None, None)


def test_measures_need_a_case_and_an_action_each():
    with pytest.raises(ValueError, match="at least one case"):
        measure([], [])
    with pytest.raises(ValueError, match="one action for each"):
        measure([case(Action.RESPOND)], [])


def test_evidence_is_measured_on_the_leads_to_be_answered():
    found = evidence([judged(Action.RESPOND, Action.RESPOND), judged(Action.ESCALATE, Action.ESCALATE)])
    assert found is not None
    assert (found.cases, found.retrieved, found.cited, found.hit, found.precision) == (1, 0.5, 0.5, 1.0, 1.0)
    uncited = evidence([judged(Action.RESPOND, Action.ESCALATE, cited=frozenset())])
    assert uncited is not None
    assert (uncited.hit, uncited.precision) == (0.0, None)
    assert evidence([judged(Action.ESCALATE, Action.ESCALATE)]) is None


def test_confusion_and_languages_count_every_lead():
    rows = [judged(Action.RESPOND, Action.ESCALATE), judged(Action.RESPOND, Action.RESPOND)]
    assert confusion(rows)[(Action.RESPOND, Action.ESCALATE)] == 1
    assert sum(confusion(rows).values()) == 2
    assert by_language(rows)["de"].exact == 0.5


@pytest.mark.parametrize(
    ("probability", "action"), [(0.01, Action.DISQUALIFY), (0.5, Action.RESPOND), (0.95, Action.ESCALATE)]
)
def test_the_score_alone_knows_three_actions(probability, action):
    score = ScoreFacts(probability=probability, version="rules-1")
    assert score_alone(judged(Action.RESPOND, Action.RESPOND, inputs=inputs(score=score))) is action


def test_chance_is_seeded_and_near_a_fifth():
    rows = [judged(action, action) for action in Action] * 8
    first, second = baselines(rows), baselines(rows)
    assert first == second
    assert first["at random (mean of 200)"].exact == pytest.approx(0.2, abs=0.03)
    assert first["respond to everyone"].exact == pytest.approx(0.2)
    assert first["escalate everyone"].escalation_recall is None


def test_the_held_out_leads_are_complete_and_not_of_the_sample():
    sample, holdout = sample_cases(), holdout_cases()
    assert len(holdout) >= 40
    assert not {row.name for row in sample} & {row.name for row in holdout}
    assert not {row.lead.message for row in sample} & {row.lead.message for row in holdout}
    assert {"en", "de", "fr", "es", "pt", "it", "nl", "pl", "ja"} <= {row.language for row in holdout}
    assert {row.expected for row in holdout} == set(Action)
    for row in holdout:
        assert row.evidence <= SLUGS, row.name
        assert row.escalation_necessary == (row.expected is Action.ESCALATE), row.name
        assert row.lead.email.endswith(".example"), row.name


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return asyncio.run(evaluate_sample())


def test_the_agent_beats_everything_that_needs_no_agent(evaluation):
    """Far under what is measured (see the report), far over chance: it fails where a part of the pipeline is torn."""
    for rows in (evaluation.sample, evaluation.holdout):
        agent = measure([row.case for row in rows], [row.action for row in rows])
        best = max(other.acceptable for other in baselines(rows).values())
        assert agent.acceptable > best + 0.15
        assert agent.escalation_recall is not None
        assert agent.escalation_recall >= 0.9
    found = evidence(evaluation.sample)
    assert found is not None
    assert found.hit >= 0.6


def test_every_injected_sample_lead_is_quiet(evaluation):
    injected = [
        row for row in evaluation.sample if row.case.name in {f"fb-lead-{n:03d}" for n in (10, 11, 12, 13, 14, 76)}
    ]
    assert len(injected) == 6
    for row in injected:
        assert row.verdict.quiet, row.case.name
        assert row.verdict.reply == ""


def test_no_other_lead_is_taken_for_an_injection(evaluation):
    quiet = {row.case.name for row in (*evaluation.sample, *evaluation.holdout) if row.verdict.quiet}
    assert quiet <= {f"fb-lead-{n:03d}" for n in (10, 11, 12, 13, 14, 76)} | {"fb-hold-035", "fb-hold-041"}


def test_the_tables_name_every_way_and_every_miss(evaluation):
    console = Console(record=True, width=160, file=io.StringIO())
    print_judged("the sample", evaluation.sample, console)
    text = console.export_text()
    for words in ("respond to everyone", "escalate everyone", "at random", "score thresholds alone", "offline model"):
        assert words in text
    missed = [row.case.name for row in evaluation.sample if not row.case.accepts(row.action)]
    assert all(name in text for name in missed)
    assert re.search(r"\d+\.\d%", text)


async def test_without_the_bank_contacts_the_command_says_so_and_goes_on(tmp_path, evaluation, monkeypatch):
    async def already_done() -> Evaluation:
        return evaluation

    monkeypatch.setattr(run, "evaluate_sample", already_done)
    console = Console(record=True, width=160, file=io.StringIO())
    await evaluate(tmp_path, console)
    text = console.export_text()
    assert "is absent" in text
    assert "held-out leads" in text
