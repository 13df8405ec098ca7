"""What stands between the model's answer and any act: rules that no text can talk round."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from app.governance.links import has_links, links, without_links
from app.packs.leads.facts import DecisionInputs
from app.packs.leads.models import Action
from app.packs.leads.planning import SLOT_PLACEHOLDER
from app.packs.leads.schemas import LeadDecision

_WORD = re.compile(r"\w+")
RUN_OF_WORDS = 8

A_PERSON_DECIDES = (
    "abusive",
    "complaint",
    "erasure",
    "legal",
    "outage",
    "payment_data",
    "press",
    "security_report",
    "tender",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision as it will be carried out; `overrides` says which rules changed the model's answer, and why.

    `quiet` means that no write tool runs: the decision is recorded and shown to a person, nothing else.
    """

    action: Action
    confidence: float
    reason: str
    evidence: tuple[str, ...]
    subject: str
    reply: str
    follow_up_days: int | None
    overrides: tuple[str, ...] = ()
    quiet: bool = False

    def to(self, action: Action, override: str, *, quiet: bool = False) -> "Verdict":
        """The same verdict with another action; its reply is dropped, for it was written for the old one."""
        return replace(
            self, action=action, subject="", reply="", overrides=(*self.overrides, override), quiet=self.quiet or quiet
        )


Rule = Callable[[DecisionInputs, Verdict], Verdict]


def _manipulation(inputs: DecisionInputs, verdict: Verdict) -> Verdict:
    if not inputs.findings:
        return verdict
    why = f"The message carries instructions to the agent ({', '.join(inputs.findings)}): nothing is written."
    action = verdict.action if verdict.action is Action.DISQUALIFY else Action.ESCALATE
    return verdict.to(action, why, quiet=True)


def _unsubscribe(inputs: DecisionInputs, verdict: Verdict) -> Verdict:
    if not inputs.enrichment.has("unsubscribe") or verdict.action in (Action.DISQUALIFY, Action.ESCALATE):
        return verdict
    return verdict.to(Action.DISQUALIFY, "The person asked not to be written to.")


def _a_person_decides(inputs: DecisionInputs, verdict: Verdict) -> Verdict:
    matters = [signal for signal in A_PERSON_DECIDES if inputs.enrichment.has(signal)]
    if not matters or verdict.action in (Action.ESCALATE, Action.DISQUALIFY):
        return verdict
    return verdict.to(Action.ESCALATE, f"A person handles this kind of message ({', '.join(matters)}).")


def _known_evidence(inputs: DecisionInputs, verdict: Verdict) -> Verdict:
    strong = {p.chunk_id for p in inputs.strong}
    return replace(verdict, evidence=tuple(dict.fromkeys(e for e in verdict.evidence if e in strong)))


def _answers_rest_on_evidence(_inputs: DecisionInputs, verdict: Verdict) -> Verdict:
    if verdict.action is not Action.RESPOND or verdict.evidence:
        return verdict
    return verdict.to(Action.ESCALATE, "No page supports an answer strongly enough.")


def _answers_say_something(_inputs: DecisionInputs, verdict: Verdict) -> Verdict:
    if verdict.action is not Action.RESPOND or verdict.reply.strip():
        return verdict
    return verdict.to(Action.ESCALATE, "The model answered without a reply to send.")


def _confidence(inputs: DecisionInputs, verdict: Verdict) -> Verdict:
    least = inputs.thresholds.confidence
    if verdict.action is Action.ESCALATE or verdict.confidence >= least:
        return verdict
    return verdict.to(Action.ESCALATE, f"Confidence {verdict.confidence:.2f} is below {least:.2f}.")


def _pursue(inputs: DecisionInputs, verdict: Verdict) -> Verdict:
    least = inputs.thresholds.pursue
    if verdict.action is not Action.SCHEDULE or inputs.score.probability >= least:
        return verdict
    return verdict.to(Action.NURTURE, f"Score {inputs.score.probability:.2f} is below {least:.2f}: no meeting yet.")


def _hot_lead(inputs: DecisionInputs, verdict: Verdict) -> Verdict:
    most = inputs.thresholds.escalate
    if verdict.action not in (Action.RESPOND, Action.NURTURE) or inputs.score.probability < most:
        return verdict
    return verdict.to(
        Action.ESCALATE, f"Score {inputs.score.probability:.2f} is at or above {most:.2f}: a person calls."
    )


def _a_slot_is_free(inputs: DecisionInputs, verdict: Verdict) -> Verdict:
    if verdict.action is not Action.SCHEDULE or inputs.slots:
        return verdict
    return verdict.to(Action.ESCALATE, "No free slot was found.")


def _no_unbooked_meeting(_inputs: DecisionInputs, verdict: Verdict) -> Verdict:
    if verdict.action is Action.SCHEDULE or SLOT_PLACEHOLDER not in f"{verdict.subject} {verdict.reply}":
        return verdict
    return verdict.to(Action.ESCALATE, "The reply offers a meeting that would not be booked.")


def _no_foreign_links(inputs: DecisionInputs, verdict: Verdict) -> Verdict:
    """Letters and notes carry only addresses that stand in the evidence: the way out for stolen data is closed."""
    if not has_links(f"{verdict.subject}\n{verdict.reply}\n{verdict.reason}"):
        return verdict
    known = links(p.text for p in inputs.passages)
    written = (verdict.subject, verdict.reply, verdict.reason)
    subject, reply, reason = (without_links(text, known) for text in written)
    if (subject, reply, reason) == written:
        return verdict
    removed = "A link that no page carries was removed."
    return replace(verdict, subject=subject, reply=reply, reason=reason, overrides=(*verdict.overrides, removed))


RULES: tuple[Rule, ...] = (
    _manipulation,
    # Before the wish to be left alone: an outage has to reach a person, which sends no mail either.
    _a_person_decides,
    _unsubscribe,
    _known_evidence,
    _answers_rest_on_evidence,
    _answers_say_something,
    _confidence,
    _pursue,
    _hot_lead,
    _a_slot_is_free,
    _no_unbooked_meeting,
    _no_foreign_links,
)


def _instructions_stay_here(instructions: str, verdict: Verdict) -> Verdict:
    """A letter that repeats the agent's instructions goes to a person. A translation of them is not recognised."""
    letter = _runs(f"{verdict.subject} {verdict.reply}")
    if not letter or letter.isdisjoint(_runs(instructions)):
        return verdict
    return verdict.to(Action.ESCALATE, "The reply repeats the agent's own instructions.")


def _runs(text: str) -> set[tuple[str, ...]]:
    """Every run of eight words, without punctuation and case."""
    words = _WORD.findall(text.casefold())
    return {tuple(words[at : at + RUN_OF_WORDS]) for at in range(len(words) - RUN_OF_WORDS + 1)}


def judge(inputs: DecisionInputs, answer: LeadDecision, instructions: str = "") -> Verdict:
    """The model's answer after every rule, in order. Pure: the same arguments give the same verdict.

    `instructions`: the system text that the model was given, which no letter may repeat.
    """
    verdict = Verdict(
        action=answer.action,
        confidence=answer.confidence,
        reason=answer.reason,
        evidence=tuple(answer.evidence),
        subject=" ".join(answer.subject.split()),
        reply=answer.reply.strip(),
        follow_up_days=answer.follow_up_days,
    )
    for rule in RULES:
        verdict = rule(inputs, verdict)
    return _instructions_stay_here(instructions, verdict)
