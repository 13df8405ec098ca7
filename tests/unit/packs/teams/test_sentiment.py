import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.packs.teams.sentiment import MOST_READ, Mood, SentimentLexicon
from tests.support.examples import examples

LEXICON = SentimentLexicon()


@pytest.mark.parametrize(
    ("text", "mood"),
    [
        ("Great service, thanks for the quick help!", Mood.FRIENDLY),
        ("We are not happy with the support.", Mood.UNHAPPY),
        ("We couldn't be happier.", Mood.FRIENDLY),
        ("The export still doesn't work and nobody answers.", Mood.UNHAPPY),
        ("No problems so far.", Mood.NEUTRAL),
        ("Please find the order attached.", Mood.NEUTRAL),
        ("Not now. Great idea, though.", Mood.FRIENDLY),
        ("The sensors are excellent, but support is terrible.", Mood.NEUTRAL),
        ("Alles läuft super, vielen Dank!", Mood.FRIENDLY),
        ("Das gefällt uns nicht.", Mood.UNHAPPY),
        ("Es funktioniert immer noch nicht, wir sind enttäuscht.", Mood.UNHAPPY),
        ("Keine Probleme bisher, wir sind zufrieden.", Mood.FRIENDLY),
        ("Wir sind leider nicht zufrieden.", Mood.UNHAPPY),
        ("Muchas gracias por la respuesta rápida, estamos encantados.", Mood.FRIENDLY),
        ("No estamos contentos con el servicio.", Mood.UNHAPPY),
        ("No funciona y nadie responde.", Mood.UNHAPPY),
        ("ok", Mood.NEUTRAL),
    ],
)
def test_a_message_sounds_as_its_words_say(text: str, mood: Mood) -> None:
    judged = LEXICON.judge(text)
    assert judged.mood is mood
    assert judged.source == "rule"


@pytest.mark.parametrize(
    "text", ["", "  \n", "Nous sommes très contents de votre service, merci pour tout.", "価格を教えて"]
)
def test_what_is_empty_or_in_another_language_has_no_mood(text: str) -> None:
    assert LEXICON.judge(text).mood is None


def test_the_words_behind_a_mood_are_shown() -> None:
    judged = LEXICON.judge("Not happy: the export is broken again.")
    assert judged.unhappy == ("negated: happy", "broken")
    assert judged.friendly == ()


def test_a_negation_ends_with_its_clause() -> None:
    assert LEXICON.judge("Not today, we are happy.").mood is Mood.FRIENDLY


def test_case_and_accents_do_not_matter() -> None:
    assert LEXICON.judge("WIR SIND VERÄRGERT").unhappy == LEXICON.judge("wir sind verargert").unhappy != ()


@given(st.text(max_size=300))
@settings(max_examples=examples(60))
def test_any_text_is_read_and_the_same_one_the_same_way(text: str) -> None:
    assert LEXICON.judge(text) == LEXICON.judge(text)


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    assert LEXICON.judge("a " * MOST_READ + "terrible awful broken").mood in (Mood.NEUTRAL, None)
