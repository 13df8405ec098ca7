"""The offline decider: written rules, quotations, and the same answer each time."""

from datetime import date
from pathlib import Path

import orjson
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from app.agent.model import Message, ModelRequest
from app.governance.injection import suspicious
from app.knowledge.language import Glossary, LanguageGuess
from app.knowledge.quoting import Quoter
from app.knowledge.sentences import questions, quotable
from app.packs.leads.enrich import Enricher
from app.packs.leads.facts import PassageFacts, Turn
from app.packs.leads.guardrails import judge
from app.packs.leads.lexicon import Lexicon
from app.packs.leads.models import Action
from app.packs.leads.offline import OfflineDecider, last_month_named, offline_decider
from app.packs.leads.offline_rules import RULES
from app.packs.leads.planning import Carried, first_wave, second_wave
from app.packs.leads.replies import PATH, Replies, spoken_name
from app.packs.leads.schemas import LeadDecision
from app.packs.leads.signals import Signal
from tests.support.examples import examples
from tests.support.leads import NOW, PRICING, SLOT, TRIAL, WEAK, enrichment, inputs, lead, lead_facts, wild_inputs

INJECTIONS = yaml.safe_load((Path(__file__).parents[3] / "data" / "injections.yaml").read_text("utf-8"))
LANGUAGES = ("en", "de", "fr", "es", "pt", "it", "nl", "pl", "ja")


@pytest.fixture(scope="module")
def decider() -> OfflineDecider:
    return offline_decider()


@pytest.fixture(scope="module")
def other_decider() -> OfflineDecider:
    return offline_decider()


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.load()


@pytest.fixture(scope="module")
def enrich(lexicon) -> Enricher:
    return Enricher(lexicon, LanguageGuess.load(), "Europe/Berlin")


@pytest.fixture(scope="module")
def quoter(lexicon) -> Quoter:
    return Quoter(Glossary.load(), LanguageGuess.load(), lexicon.unimportant)


def request(facts) -> ModelRequest:
    return ModelRequest(messages=(Message("user", "x"),), prompt="leads_decide", facts=facts.model_dump(mode="json"))


def test_it_answers_a_request_with_the_json_of_a_decision(decider):
    decision = LeadDecision.model_validate_json(decider(request(inputs())))
    assert decision.action is Action.RESPOND
    assert decision.evidence == ["chk_pricing"]
    assert "€6.90" in decision.reply


@settings(max_examples=examples(100), deadline=None)
@given(wild_inputs)
def test_wild_facts_never_raise_and_give_a_consistent_decision(decider, facts):
    decision = decider.decide(facts)
    strong = {p.chunk_id for p in facts.strong}
    assert set(decision.evidence) <= strong
    assert decision.reason
    assert (decision.follow_up_days is not None) == (decision.action is Action.NURTURE)
    if decision.action is Action.RESPOND:
        assert decision.reply
        assert decision.evidence
    if decision.action in (Action.ESCALATE, Action.DISQUALIFY):
        assert decision.reply == ""
    if decision.action is Action.SCHEDULE:
        assert "{slot}" in decision.reply


@settings(max_examples=examples(50), deadline=None)
@given(wild_inputs)
def test_the_same_facts_give_the_same_answer_from_another_decider_too(decider, other_decider, facts):
    assert decider(request(facts)) == decider(request(facts)) == other_decider(request(facts))


@pytest.mark.parametrize(
    ("signal", "action"),
    [
        (Signal.AUTOREPLY, Action.DISQUALIFY),
        (Signal.SPAM, Action.DISQUALIFY),
        (Signal.ABUSIVE, Action.ESCALATE),
        (Signal.WRONG_ADDRESS, Action.DISQUALIFY),
        (Signal.OUTAGE, Action.ESCALATE),
        (Signal.SECURITY_REPORT, Action.ESCALATE),
        (Signal.PAYMENT_DATA, Action.ESCALATE),
        (Signal.LEGAL, Action.ESCALATE),
        (Signal.ERASURE, Action.ESCALATE),
        (Signal.PRESS, Action.ESCALATE),
        (Signal.TENDER, Action.ESCALATE),
        (Signal.COMPLAINT, Action.ESCALATE),
        (Signal.MINOR, Action.DISQUALIFY),
        (Signal.COMPETITOR, Action.DISQUALIFY),
        (Signal.JOB_SEEKER, Action.DISQUALIFY),
        (Signal.STUDENT, Action.DISQUALIFY),
        (Signal.UNSUBSCRIBE, Action.DISQUALIFY),
        (Signal.NOT_SERVED, Action.DISQUALIFY),
        (Signal.LARGE_DEAL, Action.ESCALATE),
        (Signal.NOT_NOW, Action.NURTURE),
        (Signal.WANTS_MEETING, Action.SCHEDULE),
        (Signal.READY_TO_BUY, Action.ESCALATE),
        (Signal.VAGUE, Action.NURTURE),
        (Signal.ASKS_PRICE, Action.RESPOND),
    ],
)
def test_each_signal_by_itself_leads_to_its_action(decider, signal, action):
    decision = decider.decide(inputs(enrichment=enrichment(signal)))
    assert decision.action is action
    grounds = [rule.because for rule in RULES if rule.action is action] + ["The pages answer the message"]
    assert decision.reason.startswith(tuple(grounds))


@pytest.mark.parametrize(
    ("signals", "action"),
    [
        ((Signal.OUTAGE, Signal.WANTS_MEETING), Action.ESCALATE),
        ((Signal.COMPLAINT, Signal.UNSUBSCRIBE), Action.ESCALATE),
        ((Signal.JOB_SEEKER, Signal.WANTS_MEETING), Action.DISQUALIFY),
        ((Signal.NOT_NOW, Signal.WANTS_MEETING), Action.NURTURE),
        ((Signal.WANTS_MEETING, Signal.ASKS_PRICE), Action.SCHEDULE),
        ((Signal.NOT_NOW, Signal.ASKS_PRICE), Action.RESPOND),
        ((Signal.READY_TO_BUY, Signal.HAGGLING), Action.RESPOND),
    ],
)
def test_where_signals_disagree_the_earlier_rule_decides(decider, signals, action):
    assert decider.decide(inputs(enrichment=enrichment(*signals))).action is action


def test_a_named_time_weighs_more_than_not_now(decider):
    found = enrichment(Signal.NOT_NOW, Signal.WANTS_MEETING, wished=SLOT.start)
    assert decider.decide(inputs(enrichment=found)).action is Action.SCHEDULE


def test_instructions_in_the_message_go_before_everything(decider):
    decision = decider.decide(inputs(findings=("override",), enrichment=enrichment(Signal.SPAM)))
    assert decision.action is Action.ESCALATE
    assert "override" in decision.reason
    assert decision.evidence == []


@pytest.mark.parametrize(
    ("country", "action"), [("BR", Action.DISQUALIFY), ("jp", Action.NURTURE), (None, Action.RESPOND)]
)
def test_the_market_decides_by_the_country_of_the_lead(decider, country, action):
    assert decider.decide(inputs(lead=lead_facts(country=country))).action is action


def test_a_large_budget_is_for_a_person(decider):
    rich = lead_facts(attributes={"budget_usd": "250,000"})
    assert decider.decide(inputs(lead=rich)).action is Action.ESCALATE
    poor = lead_facts(attributes={"budget_usd": 900})
    assert decider.decide(inputs(lead=poor)).action is Action.RESPOND


def test_a_vague_word_in_a_conversation_goes_to_a_person(decider):
    facts = inputs("ok", enrichment=enrichment(Signal.VAGUE), history=(Turn(direction="outbound", body="When?"),))
    assert decider.decide(facts).action is Action.ESCALATE


def test_an_imported_note_gets_no_letter(decider):
    decision = decider.decide(inputs("Met at the fair.", lead=lead_facts(source="import"), enrichment=enrichment()))
    assert (decision.action, decision.reply) == (Action.NURTURE, "")


@pytest.mark.parametrize("passages", [(), (WEAK,)])
def test_without_strong_evidence_a_person_answers(decider, passages):
    decision = decider.decide(inputs(passages=passages))
    assert decision.action is Action.ESCALATE
    assert decision.evidence == []


def test_a_question_whose_words_no_page_knows_goes_to_a_person(decider):
    """Two words of the page ("free", "charge") are not enough beside eight that it does not know."""
    question = "Are gizmos free of charge with gamma, xenon, krypton, argon, radon, helium and bromine inside?"
    decision = decider.decide(inputs(question, enrichment=enrichment(Signal.ASKS_PRODUCT)))
    assert decision.action is Action.ESCALATE
    assert "know only" in decision.reason


def test_better_evidence_and_less_contradiction_make_it_surer(decider):
    weaker = PRICING.model_copy(update={"score": 0.5})
    assert decider.decide(inputs()).confidence > decider.decide(inputs(passages=(weaker,))).confidence
    alone = decider.decide(inputs(enrichment=enrichment(Signal.COMPLAINT))).confidence
    against = decider.decide(inputs(enrichment=enrichment(Signal.COMPLAINT, Signal.UNSUBSCRIBE)))
    assert alone > against.confidence
    assert "Against it" in against.reason


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("action", [Action.RESPOND, Action.SCHEDULE, Action.NURTURE])
def test_letters_are_in_the_language_of_the_lead(decider, language, action):
    signal = {Action.RESPOND: Signal.ASKS_PRICE, Action.SCHEDULE: Signal.WANTS_MEETING, Action.NURTURE: Signal.NOT_NOW}
    facts = inputs("price per month?", enrichment=enrichment(signal[action], language=language))
    decision = decider.decide(facts)
    template = yaml.safe_load(PATH.read_text("utf-8"))[language]
    assert decision.action is action
    assert template["thanks"] in decision.reply
    assert template["closing_quoted" if action is Action.RESPOND else "closing"] in decision.reply
    assert decision.subject


def test_a_language_without_templates_is_answered_in_english(decider):
    decision = decider.decide(inputs(enrichment=enrichment(Signal.ASKS_PRICE, language="fi")))
    assert "thank you for your message" in decision.reply


def test_every_language_has_every_template_with_the_same_placeholders():
    templates = yaml.safe_load(PATH.read_text("utf-8"))
    assert set(templates) == set(LANGUAGES)
    for language, texts in templates.items():
        assert texts.keys() == templates["en"].keys(), language
        assert len(texts["months"]) == 12, language
        for name, text in texts.items():
            for placeholder in ("{name}", "{quotes}", "{slot}", "{title}"):
                assert (placeholder in text) == (placeholder in templates["en"][name]), (language, name)


def test_an_answer_says_that_it_quotes_pages_and_was_made_by_no_person(decider):
    reply = decider.decide(inputs()).reply
    assert "Our pages say" in reply
    assert "(Plans and prices)" in reply
    assert "automatically" in reply


def test_what_is_quoted_stands_in_the_page(quoter):
    answer = quoter.answer("Can we try it for free, is a payment card asked for?", "en", (PRICING, TRIAL), price=False)
    assert answer.quotes
    for quote in answer.quotes:
        assert quote.text in " ".join(quote.passage.text.split())


def test_the_sentence_with_the_asked_figure_is_quoted(quoter):
    page = PRICING.model_copy(update={"text": "20 sensors cost €138.00 a month. 40 sensors cost €276.00 a month."})
    assert "€276.00" in quoter.answer("What do 40 sensors cost a month?", "en", (page,), price=True).quotes[0].text


def test_where_money_is_asked_the_sentence_with_amounts_is_quoted(quoter):
    text = "Each sensor is read monthly.\n\nEach sensor is €4, €6 or €9 monthly."
    page = PRICING.model_copy(update={"text": text, "title": "Page"})
    assert [q.text for q in quoter.answer("A sensor monthly?", "en", (page,), price=True).quotes] == [text[30:]]
    assert len(quoter.answer("A sensor monthly?", "en", (page,), price=False).quotes) == 2


def test_the_words_of_the_question_weigh_more_than_the_story_around_it(quoter):
    text = "The trial has 30 free days.\n\nClinics keep vaccines, blood and plasma on trial days."
    page = TRIAL.model_copy(update={"text": text, "title": "Page"})
    asked = "We run clinics and keep vaccines, blood and plasma. How many free days has the trial?"
    quotes = quoter.answer(asked, "en", (page,), price=False).quotes
    assert "The trial has 30 free days." in [quote.text for quote in quotes]


def test_each_question_gets_its_own_quotation(quoter):
    asked = "What is the price per sensor and month? Is a payment card asked for in the trial?"
    quotes = quoter.answer(asked, "en", (PRICING, TRIAL), price=True).quotes
    assert {quote.passage.chunk_id for quote in quotes} == {"chk_pricing", "chk_trial"}


def test_quotations_do_not_repeat_each_other(quoter):
    text = "A trial takes 30 days. A trial is free of charge. A trial needs no payment card."
    quotes = quoter.answer(
        "Is a trial free? How many days? Which card?", "en", (TRIAL.model_copy(update={"text": text}),), price=False
    )
    spoken = " ".join(quote.text for quote in quotes.quotes)
    assert spoken.count("30 days") <= 1
    assert spoken.count("free of charge") <= 1


def test_a_question_in_another_language_finds_english_sentences(quoter):
    answer = quoter.answer("Was kostet das im Monat?", "de", (PRICING,), price=True)
    assert "€6.90" in answer.quotes[0].text
    assert answer.coverage is not None


def test_a_question_in_an_unknown_language_has_no_coverage(quoter):
    assert quoter.answer("Παρακαλώ;", "el", (PRICING,), price=False).coverage is None


@settings(max_examples=examples(100), deadline=None)
@given(text=st.text(max_size=300), question=st.text(max_size=100))
def test_any_page_and_question_are_quoted_without_an_error(quoter, text, question):
    page = PassageFacts(chunk_id="c", document_id="d", title="T", text=text, score=0.9)
    answer = quoter.answer(question, "en", (page,), price=True)
    assert len(answer.quotes) <= 4
    assert all(quote.text.strip() and len(quote.text) <= 320 for quote in answer.quotes)


def test_a_table_row_is_spoken_with_its_headings():
    table = "| | Start | Operate |\n|---|---|---|\n| Users | 3 | 25 |\n| API | no | |"
    assert [sentence.text for sentence in quotable(table)] == ["Users: Start 3, Operate 25", "API: Start no"]


def test_a_bold_question_is_context_and_a_label_stays():
    found = list(quotable("**Was kostet es?** Start kostet 4,50 €, zzgl. MwSt., im Monat.\n\n**Power.** 12 V."))
    assert [sentence.text for sentence in found] == ["Start kostet 4,50 €, zzgl. MwSt., im Monat.", "Power: 12 V."]
    assert found[0].context == "Was kostet es?"


def test_only_the_sentences_that_ask_are_the_question():
    assert questions("Hello. We bake bread. What does it cost? Thanks.") == ["What does it cost?"]
    assert questions("preis") == ["preis"]
    assert questions("予算は限られています。料金はいくらですか。") == ["料金はいくらですか。"]


@pytest.mark.parametrize(
    ("text", "month"),
    [
        ("Come back in February.", 2),
        ("Not before Christmas; the second half of February is better.", 2),
        ("Melden Sie sich im Juni noch mal.", 6),
        ("nach Ostern", 4),
        ("来年の春にお願いします", 3),
        ("We may decide later.", None),
        ("", None),
    ],
)
def test_the_month_named_last_is_when_we_come_back(lexicon, text, month):
    assert last_month_named(text, lexicon.calendar) == month


@pytest.mark.parametrize(
    ("message", "days"), [("Later, in February please.", 91), ("Later, please.", 90), ("Next November, please.", 364)]
)
def test_follow_up_is_on_the_first_of_that_month(decider, message, days):
    assert inputs().today == date(2026, 11, 2)
    assert decider.decide(inputs(message, enrichment=enrichment(Signal.NOT_NOW))).follow_up_days == days


@pytest.mark.parametrize("name", ["Ada Brook", "三浦 恵子", "Dr. Ingmar Feldhoff", "Jean-Luc O'Neil"])
def test_a_name_is_spoken(name):
    assert spoken_name(name) == name


@pytest.mark.parametrize(
    "name", ["buy at www.evil.example", "x" * 80, "Click [here](http://x)", "{slot}", "A B C D E F G H I", "", "12345"]
)
def test_what_is_no_name_is_not_spoken(name):
    assert spoken_name(name) is None


def test_a_name_that_is_no_name_is_not_in_the_letter(decider):
    decision = decider.decide(inputs(lead=lead_facts(name="https://evil.example/x")))
    assert "evil" not in decision.reply
    assert decision.reply.startswith("Hello,")


def test_templates_without_a_language_fall_back():
    replies = Replies.load(LanguageGuess.load())
    assert replies.ask_back("xx", "Ada").body == replies.ask_back("en", "Ada").body
    assert replies.languages == set(LANGUAGES)


MESSAGE_CASES = [case for case in INJECTIONS if case["where"] == "message"]


@pytest.mark.parametrize("case", MESSAGE_CASES, ids=lambda case: case["id"])
@pytest.mark.parametrize("seen", [True, False], ids=["found out", "not found out"])
def test_an_injected_message_writes_nothing_to_an_address_of_its_own(decider, enrich, case, seen):
    """With the detector: no write at all. Without it: the record's address and the pages' words alone."""
    text = case["text"]
    found = enrich(message=text, email="ada@brook.example", language=None, now=NOW)
    findings = tuple(dict.fromkeys(finding.rule for finding in suspicious(text)))
    assert findings
    facts = inputs(text, enrichment=found, findings=findings if seen else ())
    verdict = judge(facts, decider.decide(facts))
    if seen:
        assert verdict.quiet
        assert verdict.action in (Action.ESCALATE, Action.DISQUALIFY)
        return
    what = Carried("dec_1", verdict.action, verdict.reason, verdict.subject, verdict.reply, SLOT)
    results = {"crm_upsert": {"id": "c"}, "calendar_book": {"id": "b", "start": SLOT.start.isoformat()}}
    plans = [*first_wave(lead(), what), *second_wave(lead(), what, results)]
    written = orjson.dumps([plan.args for plan in plans]).decode()
    assert "outbound-relay" not in written
    assert all(plan.args.get("to", "ada@brook.example") == "ada@brook.example" for plan in plans)
