"""Language guess and glossary."""

from pathlib import Path

import pytest
import yaml

from app.knowledge.language import Glossary, LanguageGuess, fold

QUESTIONS = yaml.safe_load((Path(__file__).parents[2] / "data/retrieval.yaml").read_text("utf-8"))["questions"]
LANGUAGES = ("de", "fr", "es", "pt", "it", "nl", "pl", "ja")


@pytest.fixture(scope="module")
def guess() -> LanguageGuess:
    return LanguageGuess.load()


@pytest.fixture(scope="module")
def glossary() -> Glossary:
    return Glossary.load()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("We would like to know what the plan costs for our two sites", "en"),
        ("Wir möchten wissen, was der Tarif für unsere zwei Häuser kostet", "de"),
        ("Nous voudrions savoir combien coûte la formule pour nos deux sites", "fr"),
        ("Queremos saber cuánto cuesta el plan para nuestros dos locales", "es"),
        ("Gostaríamos de saber quanto custa o plano para as nossas lojas", "pt"),
        ("Vorremmo sapere quanto costa il piano per le nostre due sedi", "it"),
        ("Wij willen graag weten wat het abonnement voor onze locaties kost", "nl"),
        ("Chcielibyśmy wiedzieć, ile to kosztuje dla naszych dwóch sklepów, proszę", "pl"),
        ("二つの店舗でいくらかかりますか", "ja"),
        ("Сколько это стоит для двух магазинов", "ru"),
        ("ما هو السعر لمتجرين", "ar"),
        ("您好，请问价格是多少", "zh"),
        ("hi", None),
        ("", None),
        ("4111 🚀", None),
    ],
)
def test_a_language_is_told_or_left_open(guess: LanguageGuess, text: str, language: str | None) -> None:
    assert guess(text) == language


def test_hardly_a_question_is_taken_for_another_language(guess: LanguageGuess) -> None:
    asked = [(language, guess(q["ask"])) for language, questions in QUESTIONS.items() for q in questions]
    wrong = [pair for pair in asked if pair[1] not in (pair[0], None)]
    assert len(wrong) <= 0.03 * len(asked)


def test_fold_drops_case_and_accents_and_keeps_japanese() -> None:
    assert fold("Prüfung ZŁOTY Straße précis") == "prufung zloty strasse precis"
    assert fold("データ") == "データ"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_concept(language: str) -> None:
    concepts = yaml.safe_load((Path(__file__).parents[3] / "app/knowledge/glossary.yaml").read_text("utf-8"))
    assert [name for name, concept in concepts.items() if not concept.get(language)] == []
    assert all(concept["english"] for concept in concepts.values())


@pytest.mark.parametrize(
    ("text", "language", "word"),
    [
        ("Was kostet der Versand?", "de", "shipping"),
        ("Listenpreis?", "de", "price"),
        ("Y a-t-il une REMISE ?", "fr", "discount"),
        ("¿Hay descuento?", "es", "discount"),
        ("Rabat dla fundacji", "pl", "discount"),
        ("解約したい", "ja", "cancel"),
        ("preis?", None, "price"),
    ],
)
def test_a_stem_brings_its_english_words(glossary: Glossary, text: str, language: str | None, word: str) -> None:
    assert word in glossary.english(text, language).split()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Je cherche un professeur de guitare", "fr"),  # not "cher"
        ("Was kostet das?", "fr"),
        ("What is the price?", "en"),
        ("Mam problem", "pt"),
        ("", "de"),
    ],
)
def test_what_is_not_meant_brings_nothing(glossary: Glossary, text: str, language: str) -> None:
    assert glossary.english(text, language) == ""


def test_concepts_come_once_in_the_order_of_the_text(glossary: Glossary) -> None:
    english = glossary.english("Rabatt, Preis, Rabatte, Preise", "de")
    assert english == "discount rebate reduction price cost pricing per month"


def test_stems_that_begin_alike_are_told_apart_by_length_and_place() -> None:
    concepts = {
        "offer": {"english": "offer", "de": ["angebot"]},
        "price": {"english": "price", "de": ["angebotspreis", "*preis"]},
        "plus": {"english": "plus", "de": ["+"]},
    }
    english = Glossary(concepts).english
    assert english("Angebotspreis", "de") == "price"
    assert english("das Angebot", "de") == "offer"
    assert english("Gegenangebot zum Sonderpreis", "de") == "price"
    assert english("\nAngebot+", None) == "offer"
    assert english("+ 3", None) == "plus"
