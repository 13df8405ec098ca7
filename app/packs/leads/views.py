"""What the console shows of a lead decision: the stored facts, put into the shape of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.governance.models import Decision
from app.governance.outcomes import BusinessMetrics
from app.knowledge.sentences import quotable
from app.packs.leads.facts import DecisionInputs, PassageFacts, SlotFacts
from app.packs.leads.models import Action
from app.packs.leads.planning import SLOT_PLACEHOLDER, spoken

PHRASES: Mapping[str, tuple[str, str]] = {
    Action.RESPOND: ("answer", ""),
    Action.SCHEDULE: ("book a meeting with", ""),
    Action.NURTURE: ("stay in touch with", ""),
    Action.ESCALATE: ("hand", " over to a person"),
    Action.DISQUALIFY: ("write no further to", ""),
}
# The width of the plot of effects, in its own units.
PLOT = 200.0
# Log-odds: what is smaller cannot be told from none.
_SMALLEST_SPAN = 1e-3
_LEAST_QUOTE = 12
_BEGINNING = 3


@dataclass(frozen=True, slots=True)
class Gauge:
    """A figure between 0 and 1 with the thresholds that it is held against."""

    label: str
    value: float
    marks: tuple[float, ...]
    says: str


@dataclass(frozen=True, slots=True)
class Effect:
    """One contribution to the score: `start` and `width` place its bar in a plot from 0 to `PLOT`."""

    feature: str
    value: str
    log_odds: float
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class PassageView:
    """A retrieved passage; each part of its text with whether the reply quotes it."""

    title: str
    score: float
    cited: bool
    weak: bool
    parts: tuple[tuple[str, bool], ...]

    @property
    def excerpt(self) -> tuple[tuple[str | None, bool], ...]:
        """What is quoted with its neighbours, else the beginning; None stands for parts that were left out."""
        quoted = [place for place, (_, is_quoted) in enumerate(self.parts) if is_quoted]
        near = {place + step for place in quoted for step in (-1, 0, 1)} if quoted else set(range(_BEGINNING))
        shown: list[tuple[str | None, bool]] = []
        for place, part in enumerate(self.parts):
            if place in near:
                shown.append(part)
            elif not shown or shown[-1][0] is not None:
                shown.append((None, False))
        return tuple(shown)

    @property
    def shortened(self) -> bool:
        return any(text is None for text, _ in self.excerpt)


@dataclass(frozen=True, slots=True)
class Mail:
    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class DecisionView:
    """The parts of an explanation that are the lead agent's own."""

    inputs: DecisionInputs
    gauges: tuple[Gauge, ...]
    effects: tuple[Effect, ...]
    axis: float
    passages: tuple[PassageView, ...]
    said_action: str
    said_confidence: float
    overrides: tuple[str, ...]
    quiet: bool
    mail: Mail | None
    dropped: Mail | None
    slot: SlotFacts | None


def view_of(decision: Decision) -> DecisionView:
    """Raises pydantic's ValidationError where the stored inputs are not a lead decision's."""
    inputs = DecisionInputs.model_validate(decision.inputs)
    answer = decision.answer
    said = answer["model"]
    slot = SlotFacts.model_validate(answer["slot"]) if answer["slot"] else None
    mail = _mail(answer["subject"], answer["reply"], slot)
    bars = effects(inputs.score.contributions)
    return DecisionView(
        inputs=inputs,
        gauges=_gauges(inputs, decision.confidence),
        effects=bars,
        axis=next((bar.start if bar.log_odds >= 0 else bar.start + bar.width for bar in bars), 0.0),
        passages=_passages(inputs.passages, {row["chunk_id"] for row in decision.evidence}, answer["reply"]),
        said_action=said["action"],
        said_confidence=said["confidence"],
        overrides=tuple(answer["overrides"]),
        quiet=answer["quiet"],
        mail=mail,
        dropped=None if mail else _mail(said["subject"], said["reply"], slot),
        slot=slot,
    )


def _gauges(inputs: DecisionInputs, confidence: float) -> tuple[Gauge, ...]:
    limits = inputs.thresholds
    score = inputs.score.probability
    if score < limits.pursue:
        says = f"below {limits.pursue:.0%}: worth no meeting yet"
    elif score >= limits.escalate:
        says = f"{limits.escalate:.0%} or more: a person calls"
    else:
        says = f"between {limits.pursue:.0%} and {limits.escalate:.0%}: the agent may act"
    least = f"{limits.confidence:.0%}"
    sure = (
        f"{least} or more: it may act alone" if confidence >= limits.confidence else f"below {least}: a person decides"
    )
    return (
        Gauge("Likely to buy", score, (limits.pursue, limits.escalate), says),
        Gauge("Sure of the decision", confidence, (limits.confidence,), sure),
    )


def effects(contributions: Sequence[tuple[str, str, float]]) -> tuple[Effect, ...]:
    """Bars to the right of the axis for what raised the score, to the left for what lowered it, on one scale."""
    lowest = min((log_odds for _, _, log_odds in contributions), default=0.0)
    highest = max((log_odds for _, _, log_odds in contributions), default=0.0)
    left, right = max(0.0, -lowest), max(0.0, highest)
    unit = PLOT / max(left + right, _SMALLEST_SPAN)
    return tuple(
        Effect(feature, value, log_odds, (left + min(0.0, log_odds)) * unit, abs(log_odds) * unit)
        for feature, value, log_odds in contributions
    )


def _passages(passages: Sequence[PassageFacts], cited: set[str], reply: str) -> tuple[PassageView, ...]:
    """Cited ones first, each group best first."""
    views = [
        PassageView(
            title=passage.title,
            score=passage.score,
            cited=passage.chunk_id in cited,
            weak=passage.weak,
            parts=_parts(passage.text, reply if passage.chunk_id in cited else ""),
        )
        for passage in passages
    ]
    return tuple(sorted(views, key=lambda view: (not view.cited, -view.score)))


def _parts(text: str, reply: str) -> tuple[tuple[str, bool], ...]:
    """The passage sentence by sentence, with the questions that it answers in front of their answers."""
    parts, question = [], ""
    for sentence in quotable(text):
        if sentence.first != sentence.last:
            continue
        if sentence.context.endswith("?") and sentence.context != question:
            parts.append((sentence.context, False))
        question = sentence.context
        parts.append((sentence.text, len(sentence.text) >= _LEAST_QUOTE and sentence.text in reply))
    return tuple(parts)


def _mail(subject: str, reply: str, slot: SlotFacts | None) -> Mail | None:
    if not reply:
        return None
    return Mail(subject, reply.replace(SLOT_PLACEHOLDER, spoken(slot.start)) if slot else reply)


@dataclass(frozen=True, slots=True)
class Figure:
    """One business figure over `of` things; `low` and `high` bound it with 95 % confidence."""

    label: str
    value: float | None
    of: int
    one: str
    many: str
    low: float | None
    high: float | None


def figures(total: BusinessMetrics) -> tuple[Figure, ...]:
    """Every share, each with the sample that it rests on."""
    shares = (
        ("Converted", total.conversion, "lead with a known outcome", "leads with a known outcome"),
        ("Handed to a person", total.escalation_rate, "decided lead", "decided leads"),
        ("Hand-overs that were needed", total.escalation_precision, "judged hand-over", "judged hand-overs"),
        ("Decisions found right", total.decision_accuracy, "judged decision", "judged decisions"),
        ("Satisfied", total.csat, "rating", "ratings"),
    )
    return tuple(
        Figure(label, share.value, share.of, one, many, *(share.interval95 or (None, None)))
        for label, share, one, many in shares
    )
