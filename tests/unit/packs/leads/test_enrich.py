"""What is read off a message without a model."""

import re
from datetime import UTC, datetime

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from app.knowledge.language import LanguageGuess
from app.packs.leads.enrich import Enricher, language_tag, primary
from app.packs.leads.lexicon import PATH, Lexicon
from app.packs.leads.scoring.rules import lead_rules
from app.packs.leads.signals import Signal
from tests.support.examples import examples

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)  # a Monday


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.load()


@pytest.fixture(scope="module")
def enrich(lexicon) -> Enricher:
    return Enricher(lexicon, LanguageGuess.load(), "Europe/Berlin")


@pytest.fixture(scope="module")
def signals(enrich):
    def read(message: str, language: str | None = None) -> tuple[str, ...]:
        return enrich(message=message, email="a@b.example", language=language, now=NOW).signals

    return read


@pytest.fixture(scope="module")
def wished(enrich):
    def read(message: str, language: str | None = None) -> str | None:
        found = enrich(message=message, email="a@b.example", language=language, now=NOW).wished
        return found.strftime("%Y-%m-%d %H:%M") if found else None

    return read


@pytest.mark.parametrize(
    ("declared", "tag"),
    [
        ("en", "en"),
        ("EN-gb", "en-GB"),
        ("zh_hans", "zh-Hans"),
        ("pt-br", "pt-BR"),
        ("", None),
        (None, None),
        ("1!", None),
    ],
)
def test_a_declared_language_is_written_as_bcp_47_writes_it(declared, tag):
    assert language_tag(declared) == tag


def test_the_primary_subtag_of_an_unknown_language_is_none():
    assert (primary("de-AT"), primary("und"), primary(None)) == ("de", None, None)


@pytest.mark.parametrize(
    ("message", "language"),
    [
        ("Could you tell me what it would cost for us, please?", "en"),
        ("Können Sie mir bitte sagen, was das für uns kostet?", "de"),
        ("Pouvez-vous nous dire combien cela coûte pour notre site ?", "fr"),
        ("¿Nos puede decir cuánto cuesta para nuestros locales?", "es"),
        ("Podem dizer-nos quanto custa para os nossos armazéns? Não temos pressa.", "pt"),
        ("Vorremmo sapere quanto costa per i nostri magazzini, grazie.", "it"),
        ("Kunnen jullie ons zeggen wat het kost voor onze winkel?", "nl"),
        ("Proszę powiedzieć, ile to kosztuje dla naszej firmy i czy jest rabat.", "pl"),
        ("料金はいくらですか。", "ja"),
        ("请问价格是多少?", "zh"),
        ("كم تكلفة الجهاز؟", "ar"),
        ("Сколько это стоит?", "ru"),
        ("xq zzt", "und"),
        ("", "und"),
    ],
)
def test_an_undeclared_language_is_guessed_from_the_text(enrich, message, language):
    assert enrich(message=message, email="a@b.example", language=None, now=NOW).language == language


def test_a_declared_language_wins_over_the_text(enrich):
    assert enrich(message="Was kostet das?", email="a@b.example", language="en-GB", now=NOW).language == "en-GB"


@pytest.mark.parametrize(
    ("email", "kind", "domain"),
    [
        ("a@gmail.com", "free", "gmail.com"),
        ("a@WEB.de", "free", "web.de"),
        ("a@mail.mailinator.com", "disposable", "mail.mailinator.com"),
        ("a@brook.example", "company", "brook.example"),
        ("a@notgmail.com", "company", "notgmail.com"),
        ("no address", "company", ""),
    ],
)
def test_the_kind_of_an_address_is_told_by_its_domain(enrich, email, kind, domain):
    found = enrich(message="hi", email=email, language=None, now=NOW)
    assert (found.email_kind, found.domain) == (kind, domain if "@" in email else "no address")


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (Signal.WANTS_MEETING, "We would like a demo."),
        (Signal.WANTS_MEETING, "Können wir einen Termin vereinbaren?"),
        (Signal.WANTS_MEETING, "Czy możemy umówić się na spotkanie?"),
        (Signal.ASKS_PRICE, "preis?"),
        (Signal.ASKS_PRICE, "Quanto costa al mese?"),
        (Signal.ASKS_PRICE, "料金を教えてください。"),
        (Signal.ASKS_PRODUCT, "Do you support Okta?"),
        (Signal.ASKS_PRODUCT, "rate limits? sandbox y/n"),
        (Signal.HAS_DEADLINE, "We need it by Friday."),
        (Signal.READY_TO_BUY, "We are ready to order."),
        (Signal.NOT_NOW, "Not right now, perhaps next year."),
        (Signal.NOT_NOW, "Derzeit brauchen wir nichts, melden Sie sich im Juni noch mal."),
        (Signal.UNSUBSCRIBE, "Please remove me from your list."),
        (Signal.UNSUBSCRIBE, "DESABONNER"),
        (Signal.SPAM, "We can get you to the first page of Google with backlinks."),
        (Signal.JOB_SEEKER, "Please find my CV attached."),
        (Signal.JOB_SEEKER, "Anbei meine Bewerbung mit Lebenslauf."),
        (Signal.STUDENT, "I am a student and this is for my thesis."),
        (Signal.COMPETITOR, "We make sensors as well, what does a tag cost you to make?"),
        (Signal.OUTAGE, "All our hubs are offline since this morning."),
        (Signal.OUTAGE, "Alle Sensoren sind seit heute Nacht ausgefallen."),
        (Signal.COMPLAINT, "C'est inadmissible, aucune réponse depuis un mois."),
        (Signal.LEGAL, "Our client will issue proceedings."),
        (Signal.ERASURE, "Please delete all my personal data."),
        (Signal.ERASURE, "Ich verlange die Löschung meiner Daten gemäß Art. 17 DSGVO."),
        (Signal.PRESS, "I am a journalist at a newspaper."),
        (Signal.TENDER, "Please find our request for proposal attached."),
        (Signal.LARGE_DEAL, "We would need roughly 2,400 sensors."),
        (Signal.LARGE_DEAL, "Es geht um 1.200 Messstellen."),
        (Signal.RESELLER, "Vorremmo rivendere i vostri sensori."),
        (Signal.AUTOREPLY, "Automatic reply: I am out of the office."),
        (Signal.WRONG_ADDRESS, "Where is my washing machine?"),
        (Signal.ABUSIVE, "You morons."),
        (Signal.MINOR, "im 14 and my mum said its ok"),
        (Signal.NOT_SERVED, "The end customer is in Minsk."),
        (Signal.EXISTING_CUSTOMER, "We are customers since 2020."),
        (Signal.VAGUE, "hi"),
        (Signal.VAGUE, "Guten Tag"),
        (Signal.HAGGLING, "What is your best price? Last offer."),
        (Signal.PAYMENT_DATA, "Take it off 4111 1111 1111 1111, please."),
        (Signal.SECURITY_REPORT, "I found a vulnerability in your API."),
    ],
)
def test_each_signal_is_read_from_a_plain_message(signals, signal, message):
    assert signal in signals(message)


@pytest.mark.parametrize("signal", list(Signal))
def test_each_signal_has_phrases_or_a_test_of_its_own(signal):
    declared = set(yaml.safe_load(PATH.read_text("utf-8"))["signals"])
    assert signal in declared or signal in (Signal.VAGUE, Signal.PAYMENT_DATA)


def test_the_score_reads_only_signals_that_exist():
    assert {rule.signal for rule in lead_rules().signals} <= set(Signal)


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (Signal.WANTS_MEETING, "No demo for now, thank you."),
        (Signal.WANTS_MEETING, "Bitte keinen Termin, nur die Preisliste."),
        (Signal.WANTS_MEETING, "Pas de démonstration, merci."),
        (Signal.WANTS_MEETING, "Liever geen afspraak."),
        (Signal.OUTAGE, "What happens if all hubs are offline?"),
        (Signal.OUTAGE, "Was passiert, wenn alle Sensoren ausgefallen sind?"),
        (Signal.LARGE_DEAL, "We have 240 sensors."),
        (Signal.LARGE_DEAL, "We were founded in 1987, 12 people."),
        (Signal.PAYMENT_DATA, "Order 4111 1111 1111 1112 has arrived."),
        (Signal.ABUSIVE, "Our shitake mushrooms need cooling."),
        (Signal.VAGUE, "preis?"),
        (Signal.VAGUE, "SSO?"),
        (Signal.ASKS_PRODUCT, "We do nothing."),
    ],
)
def test_what_is_denied_supposed_or_merely_similar_shows_nothing(signals, signal, message):
    assert signal not in signals(message)


def test_a_negation_ends_with_its_clause(signals):
    assert Signal.WANTS_MEETING in signals("No hurry, a demo would be nice.")


def test_signals_are_sorted_and_unique(signals):
    found = signals("What does it cost? How much is it per month? Can we have a demo by Friday?")
    assert list(found) == sorted(set(found))
    assert len(found) >= 3


def test_a_phrase_of_another_language_is_not_read_into_a_known_one(signals):
    # "disgusto" is no disgust, "come" is not Italian for "how".
    assert Signal.COMPLAINT not in signals("Nos habéis ahorrado más de un disgusto, gracias por todo.", "es")
    assert Signal.ASKS_PRODUCT not in signals("They come tomorrow with the van.", "en")


@pytest.mark.parametrize(
    ("message", "moment"),
    [
        ("A demo on 2026-11-12 at 14:30, please.", "2026-11-12 13:30"),
        ("A demo next Tuesday at 10 would suit us.", "2026-11-03 09:00"),
        ("Demo on Wednesday 15:00?", "2026-11-04 14:00"),
        ("Demo Tuesday 10:30 Eastern?", "2026-11-03 15:30"),
        ("A call on Thursday, 2pm?", "2026-11-05 13:00"),
        ("A call at 3 on Thursday?", "2026-11-05 14:00"),
        ("A demo tomorrow at 9am?", "2026-11-03 08:00"),
        ("A demo on Friday, next week, at 11:00?", "2026-11-13 10:00"),
        ("Demo on March 12 at 2pm?", "2027-03-12 13:00"),
        ("Eine Vorführung am 12. März um 14 Uhr?", "2027-03-12 13:00"),
        ("Termin am 12.11.2026 um 9:30 Uhr?", "2026-11-12 08:30"),
        ("Können wir das Gespräch am Montag um 9:30 machen?", "2026-11-09 08:30"),
        ("Une démonstration jeudi à 14 h ?", "2026-11-05 13:00"),
        ("Une démonstration le 12 novembre à 14h30 ?", "2026-11-12 13:30"),
        ("¿Una reunión el lunes a las 12:30?", "2026-11-09 11:30"),
        ("Uma demonstração sexta-feira às 15h?", "2026-11-06 14:00"),
        ("Un incontro martedì alle 9:30?", "2026-11-03 08:30"),
        ("Een afspraak op donderdag om 11.00 uur?", "2026-11-05 10:00"),
        ("Spotkanie w czwartek o 13:00?", "2026-11-05 12:00"),
        ("Et møde fredag kl. 10.00?", "2026-11-06 09:00"),
        ("11月12日14時にデモをお願いします。", "2026-11-12 13:00"),
        ("木曜日の午後2時に打ち合わせできますか。", "2026-11-05 13:00"),
        ("下周三上午10点可以演示吗?", "2026-11-11 09:00"),
        ("A demo on Tuesday?", "2026-11-03 08:00"),
    ],
)
def test_a_wished_time_is_read_exactly(wished, message, moment):
    assert wished(message) == moment


@pytest.mark.parametrize(
    "message",
    [
        "We want a demo soon.",
        "We need a demo by Friday.",
        "A demo before Thursday, 14:00, would be good.",
        "Can we have a demo? We have 14 fridges and 10.5 tonnes of cheese.",
        "The demo of 2026-10-01 at 10:00 was good, again please.",
        "Guten Morgen, wir hätten gern eine Vorführung.",
        "What does it cost? We open on Tuesday at 10.",
        "A demo on 2026-02-31 at 10:00?",
        "A demo on 45.13.2026?",
    ],
)
def test_what_is_no_wish_for_a_time_is_none(wished, message):
    assert wished(message) is None


def test_a_wished_time_is_aware(enrich):
    found = enrich(message="Demo on Wednesday 15:00?", email="a@b.example", language=None, now=NOW)
    assert found.wished is not None
    assert found.wished.tzinfo is UTC


@settings(max_examples=examples(150), deadline=None)
@given(message=st.text(max_size=500), email=st.text(max_size=60), language=st.none() | st.text(max_size=12))
def test_any_text_is_enriched_without_an_error(enrich, message, email, language):
    found = enrich(message=message, email=email, language=language, now=NOW)
    assert set(found.signals) <= set(Signal)
    assert found.email_kind in ("free", "company", "disposable")
    assert found.wished is None or found.wished > NOW


WORDS = [
    "demo",
    "on",
    "monday",
    "10:30",
    "at",
    "3",
    "12.",
    "märz",
    "下周三",
    "上午10点",
    "not",
    "by",
    "?",
    ".",
    "25",
    "sensors",
]


@settings(max_examples=examples(150), deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), max_size=14))
def test_any_order_of_telling_words_is_enriched_the_same_each_time(enrich, words):
    text = " ".join(words)
    first = enrich(message=text, email="a@b.example", language=None, now=NOW)
    assert first == enrich(message=text, email="a@b.example", language=None, now=NOW)


def test_every_phrase_of_the_lexicon_shows_its_own_signal(lexicon):
    """A phrase that its own words do not match (a typing error, a part of speech torn apart) is dead weight."""
    for name, entry in yaml.safe_load(PATH.read_text("utf-8"))["signals"].items():
        for language, phrases in entry.items():
            if not isinstance(phrases, list):
                continue
            for phrase in phrases:
                words = [part.split("|")[0].replace("*", "x") for part in phrase.split() if part != "~"]
                spoken = "".join(words) if language in ("ja", "zh") else " ".join(words)
                assert Signal(name) in lexicon.phrases.find(spoken, {language}), (name, language, phrase)


def test_phrases_are_text_and_not_what_yaml_makes_of_yes_and_no():
    text = PATH.read_text("utf-8")
    document = yaml.safe_load(text)
    words = [*document["fillers"], *document["unimportant"], *document["market"]["served"]]
    assert all(isinstance(word, str) for word in words)
    assert not re.search(
        r"[\[ ,](?:no|yes|on|off)[,\]]", "".join(line for line in text.splitlines() if "#" not in line)
    )
