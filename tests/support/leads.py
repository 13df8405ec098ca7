"""Decision inputs for tests, and hypothesis strategies for wild ones."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from app.packs.leads.facts import (
    DecisionInputs,
    Enrichment,
    LeadFacts,
    PassageFacts,
    ScoreFacts,
    SlotFacts,
    Thresholds,
    Turn,
)
from app.packs.leads.models import Action, Lead
from app.packs.leads.schemas import LeadDecision
from app.packs.leads.signals import Signal

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
PRICING = PassageFacts(
    chunk_id="chk_pricing",
    document_id="doc_pricing",
    title="Plans and prices",
    text=(
        "| | Start | Operate |\n|---|---|---|\n| Price per sensor per month, EUR | €4.50 | €6.90 |\n\n"
        "Monthly billing is possible on every plan and costs 15 % more. Questions: sales@frostbaken.example. "
        "Our status is at https://status.frostbaken.example/now, day and night."
    ),
    score=0.92,
)
TRIAL = PassageFacts(
    chunk_id="chk_trial",
    document_id="doc_trial",
    title="The free trial",
    text="You can try it for 30 days, free of charge. No payment card is asked for.",
    score=0.7,
)
WEAK = PassageFacts(
    chunk_id="chk_weak", document_id="doc_weak", title="Roadmap", text="Nothing is promised.", score=0.2, weak=True
)
SLOT = SlotFacts(start=NOW + timedelta(days=2), end=NOW + timedelta(days=2, minutes=30))


def lead_facts(**changes: Any) -> LeadFacts:
    known: dict[str, Any] = {
        "name": "Ada Brook",
        "company": "Brook Foods",
        "language": "en",
        "country": "GB",
        "source": "web_form",
        "attributes": {},
    }
    return LeadFacts(**known | changes)


def enrichment(*signals: Signal, **changes: Any) -> Enrichment:
    known: dict[str, Any] = {"language": "en", "email_kind": "company", "domain": "brook.example"}
    return Enrichment(signals=tuple(sorted(signals)), **known | changes)


def inputs(message: str = "What does it cost per month?", **changes: Any) -> DecisionInputs:
    known: dict[str, Any] = {
        "lead": lead_facts(),
        "message": message,
        "enrichment": enrichment(Signal.ASKS_PRICE),
        "score": ScoreFacts(probability=0.4, version="rules-1"),
        "passages": (PRICING, TRIAL, WEAK),
        "slots": (SLOT,),
        "thresholds": Thresholds(),
        "today": NOW.date(),
    }
    return DecisionInputs(**known | changes)


def answer(action: Action = Action.RESPOND, **changes: Any) -> LeadDecision:
    known: dict[str, Any] = {
        "action": action,
        "confidence": 0.9,
        "reason": "The page answers it.",
        "evidence": ["chk_pricing"],
        "subject": "Your question",
        "reply": "It costs €6.90.",
    }
    return LeadDecision(**known | changes)


def lead(**changes: Any) -> Lead:
    known: dict[str, Any] = {
        "id": "lead_1",
        "name": "Ada Brook",
        "email": "ada@brook.example",
        "company": "Brook Foods",
        "phone": None,
        "source": "web_form",
        "attributes": {},
    }
    return Lead(**known | changes)


_SHARES = st.floats(0, 1)
_TEXTS = st.text(max_size=200)
_LINKS = st.sampled_from(
    [
        "https://evil.example/x?d=1",
        "http://evil.example.",
        "www.evil.example",
        "evil.com/steal?q=names",
        "![pixel](https://evil.example/p.png)",
        "[click](https://evil.example)",
        "drop@evil.example",
        "HTTPS://EVIL.EXAMPLE/A",
        "ftp://evil.example/f",
        "sales@frostbaken.example",
        "https://status.frostbaken.example/now",
        "{slot}",
    ]
)
_REPLIES = st.lists(_TEXTS | _LINKS, max_size=6).map(" ".join)
_PASSAGES = st.lists(
    st.builds(
        PassageFacts,
        chunk_id=st.sampled_from([f"chk_{number}" for number in range(6)]),
        document_id=st.just("doc"),
        title=_TEXTS,
        text=_REPLIES,
        score=_SHARES,
        weak=st.booleans(),
    ),
    max_size=5,
    unique_by=lambda passage: passage.chunk_id,
)
MOMENTS = st.integers(0, 365 * 24 * 60).map(lambda minutes: NOW + timedelta(minutes=minutes))
SLOTS = st.lists(MOMENTS.map(lambda start: SlotFacts(start=start, end=start + timedelta(minutes=30))), max_size=4)
SIGNALS = st.sets(st.sampled_from(list(Signal)), max_size=5)

wild_inputs = st.builds(
    DecisionInputs,
    lead=st.builds(
        LeadFacts,
        name=st.text(min_size=1, max_size=80),
        company=st.none() | _TEXTS,
        language=st.sampled_from([None, "en", "de-AT", "ja", "xx"]),
        country=st.sampled_from([None, "", "GB", "jp", "RU", "??"]),
        source=st.sampled_from(["web_form", "import"]),
        attributes=st.dictionaries(st.sampled_from(["budget_usd", "employees"]), st.integers() | _TEXTS, max_size=2),
    ),
    message=st.text(max_size=400) | _REPLIES,
    history=st.lists(st.builds(Turn, direction=st.just("inbound"), body=_TEXTS), max_size=2).map(tuple),
    enrichment=st.builds(
        Enrichment,
        language=st.sampled_from(["und", "en", "de-AT", "pl", "ja", "zh-Hans", "xx"]),
        email_kind=st.sampled_from(["free", "company", "disposable"]),
        domain=st.just("brook.example"),
        signals=SIGNALS.map(lambda names: tuple(sorted(names))),
        wished=st.none() | MOMENTS,
    ),
    score=st.builds(ScoreFacts, probability=_SHARES, version=st.just("rules-1")),
    passages=_PASSAGES.map(tuple),
    slots=SLOTS.map(tuple),
    thresholds=st.builds(Thresholds, pursue=_SHARES, escalate=_SHARES, confidence=_SHARES, evidence=_SHARES),
    findings=st.sampled_from([(), ("override",), ("role", "tool")]),
    today=st.dates(date(2026, 1, 1), date(2027, 12, 31)),
)
wild_answers = st.builds(
    LeadDecision,
    action=st.sampled_from(list(Action)),
    confidence=_SHARES,
    reason=st.text(min_size=1, max_size=50),
    evidence=st.lists(st.sampled_from([f"chk_{number}" for number in range(8)]), max_size=6),
    subject=_LINKS | st.text(max_size=40),
    reply=_REPLIES,
    follow_up_days=st.none() | st.integers(1, 365),
)
