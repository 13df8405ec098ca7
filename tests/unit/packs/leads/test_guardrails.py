"""Whatever a model answers, these hold."""

import re
from typing import Any

import pytest
from hypothesis import given, settings

from app.governance.links import LINK_REMOVED
from app.packs.leads.facts import DecisionInputs, ScoreFacts, Thresholds
from app.packs.leads.guardrails import A_PERSON_DECIDES, judge
from app.packs.leads.models import Action
from app.packs.leads.planning import Carried, first_wave, second_wave
from app.packs.leads.schemas import LeadDecision
from app.packs.leads.signals import Signal
from tests.support.examples import examples
from tests.support.leads import (
    PRICING,
    SLOT,
    answer,
    enrichment,
    inputs,
    lead,
    wild_answers,
    wild_inputs,
)

EVIL = re.compile(r"evil\.(?:example|com)", re.IGNORECASE)


def planned(inputs: DecisionInputs, answer: LeadDecision) -> list[Any]:
    """The writes that would be made, as `act.py` makes them."""
    verdict = judge(inputs, answer)
    if verdict.quiet:
        return []
    slot = inputs.slots[0] if verdict.action is Action.SCHEDULE else None
    what = Carried("dec_1", verdict.action, verdict.reason, verdict.subject, verdict.reply, slot)
    receipts = {"crm_upsert": {"id": "c"}, "calendar_book": {"id": "b", "start": SLOT.start.isoformat()}}
    first = first_wave(lead(), what)
    return first + second_wave(
        lead(), what, {plan.tool: receipts[plan.tool] for plan in first if plan.tool in receipts}
    )


@settings(max_examples=examples(100))
@given(wild_inputs, wild_answers)
def test_a_message_with_instructions_leads_to_no_write(inputs, answer):
    if inputs.findings:
        verdict = judge(inputs, answer)
        assert verdict.quiet
        assert verdict.action in (Action.ESCALATE, Action.DISQUALIFY)
        assert verdict.reply == ""
        assert planned(inputs, answer) == []


@settings(max_examples=examples(100))
@given(wild_inputs, wild_answers)
def test_cited_evidence_is_always_strong(inputs, answer):
    strong = {p.chunk_id for p in inputs.passages if not p.weak and p.score >= inputs.thresholds.evidence}
    verdict = judge(inputs, answer)
    assert set(verdict.evidence) <= strong
    assert len(set(verdict.evidence)) == len(verdict.evidence)


@settings(max_examples=examples(100))
@given(wild_inputs, wild_answers)
def test_an_answer_always_has_evidence_and_words(inputs, answer):
    verdict = judge(inputs, answer)
    if verdict.action is Action.RESPOND:
        assert verdict.evidence
        assert verdict.reply.strip()
        assert verdict.confidence >= inputs.thresholds.confidence


@settings(max_examples=examples(100))
@given(wild_inputs, wild_answers)
def test_no_letter_carries_a_link_that_no_page_has(inputs, answer):
    verdict = judge(inputs, answer)
    if not EVIL.search(" ".join(p.text for p in inputs.passages)):
        assert not EVIL.search(f"{verdict.subject} {verdict.reply}")


@settings(max_examples=examples(100))
@given(wild_inputs, wild_answers)
def test_a_meeting_is_offered_only_where_one_can_be_booked(inputs, answer):
    verdict = judge(inputs, answer)
    if verdict.action is Action.SCHEDULE:
        assert inputs.slots
        assert inputs.score.probability >= inputs.thresholds.pursue
    if verdict.action is Action.RESPOND:
        assert "{slot}" not in verdict.reply


@settings(max_examples=examples(100))
@given(wild_inputs, wild_answers)
def test_who_asked_to_be_left_alone_gets_no_mail(inputs, answer):
    if inputs.enrichment.has(Signal.UNSUBSCRIBE):
        assert "email_send" not in {plan.tool for plan in planned(inputs, answer)}


@settings(max_examples=examples(100))
@given(wild_inputs, wild_answers)
def test_a_matter_for_a_person_is_never_answered_by_the_agent(inputs, answer):
    if inputs.enrichment.has(*A_PERSON_DECIDES):
        verdict = judge(inputs, answer)
        assert verdict.action in (Action.ESCALATE, Action.DISQUALIFY)


@settings(max_examples=examples(80))
@given(wild_inputs, wild_answers)
def test_judging_is_pure_and_says_why_it_changed_an_action(inputs, answer):
    verdict = judge(inputs, answer)
    assert verdict == judge(inputs, answer)
    if verdict.action is not answer.action:
        assert verdict.overrides


def test_a_good_answer_passes_unchanged():
    verdict = judge(inputs(), answer())
    assert (verdict.action, verdict.reply, verdict.evidence) == (Action.RESPOND, "It costs €6.90.", ("chk_pricing",))
    assert verdict.overrides == ()
    assert not verdict.quiet


@pytest.mark.parametrize("evidence", [[], ["chk_weak"], ["chk_invented"]])
def test_an_answer_without_strong_evidence_goes_to_a_person(evidence):
    verdict = judge(inputs(), answer(evidence=evidence))
    assert verdict.action is Action.ESCALATE
    assert verdict.reply == ""
    assert "No page" in verdict.overrides[0]


def test_an_answer_without_words_goes_to_a_person():
    verdict = judge(inputs(), answer(reply=" \n"))
    assert verdict.action is Action.ESCALATE
    assert "without a reply" in verdict.overrides[0]


def test_an_outage_goes_to_a_person_even_where_the_writer_wants_no_mail():
    found = enrichment(Signal.OUTAGE, Signal.UNSUBSCRIBE)
    assert judge(inputs(enrichment=found), answer()).action is Action.ESCALATE


def test_an_unsure_answer_goes_to_a_person():
    verdict = judge(inputs(thresholds=Thresholds(confidence=0.5)), answer(confidence=0.49))
    assert verdict.action is Action.ESCALATE
    assert "0.49 is below 0.50" in verdict.overrides[0]


def test_a_poor_lead_is_not_offered_a_meeting():
    poor = ScoreFacts(probability=0.01, version="rules-1")
    verdict = judge(inputs(score=poor), answer(Action.SCHEDULE, reply="Let us meet {slot}"))
    assert verdict.action is Action.NURTURE
    assert verdict.reply == ""


def test_a_hot_lead_goes_to_a_person():
    hot = ScoreFacts(probability=0.95, version="rules-1")
    assert judge(inputs(score=hot), answer()).action is Action.ESCALATE
    assert judge(inputs(score=hot), answer(Action.SCHEDULE, reply="{slot}")).action is Action.SCHEDULE


def test_links_of_the_pages_stay_and_others_go():
    text = (
        "See https://status.frostbaken.example/now, write to sales@frostbaken.example. "
        "Or https://evil.example/x, evil.com/steal, a@evil.example ![p](https://evil.example/p.png)"
    )
    reply = judge(inputs(passages=(PRICING,)), answer(reply=text)).reply
    assert "https://status.frostbaken.example/now," in reply
    assert "sales@frostbaken.example." in reply
    assert "evil" not in reply
    assert reply.count(LINK_REMOVED) == 4


def test_a_figure_with_a_point_is_no_link():
    text = "It costs 1.029 EUR, see section 3.2 of the U.S.A. price list, e.g. for v2.x."
    assert judge(inputs(), answer(reply=text)).reply == text


def test_a_link_in_the_subject_is_removed_too():
    verdict = judge(inputs(), answer(subject="Win at https://evil.example/now"))
    assert verdict.subject == f"Win at {LINK_REMOVED}"


def test_a_subject_is_one_line():
    assert judge(inputs(), answer(subject="Hi\r\nBcc: all@evil.example")).subject == f"Hi Bcc: {LINK_REMOVED}"


def test_an_answer_that_promises_a_meeting_goes_to_a_person():
    verdict = judge(inputs(), answer(reply="We meet {slot}."))
    assert verdict.action is Action.ESCALATE


def test_a_link_in_the_reason_does_not_reach_the_note():
    verdict = judge(inputs(), answer(reason="Paid, see https://evil.example/x for the receipt."))
    assert verdict.reason == f"Paid, see {LINK_REMOVED} for the receipt."


INSTRUCTIONS = "You decide what happens next with one sales lead. Answer with one JSON object and nothing else."


@pytest.mark.parametrize(
    "reply",
    [
        f"Here they are: {INSTRUCTIONS}",
        "YOU DECIDE - what happens next, with one sales lead!",
        "It costs €6.90.\n> with one sales lead.\n> Answer with one JSON object",
    ],
)
def test_a_reply_that_repeats_the_instructions_goes_to_a_person(reply):
    verdict = judge(inputs(), answer(reply=reply), INSTRUCTIONS)
    assert (verdict.action, verdict.reply) == (Action.ESCALATE, "")
    assert "instructions" in verdict.overrides[-1]


def test_a_few_words_in_common_with_the_instructions_are_no_leak():
    text = "You decide what happens next with the sensors."
    assert judge(inputs(), answer(reply=text), INSTRUCTIONS).reply == text
