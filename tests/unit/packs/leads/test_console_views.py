"""What the console makes of a stored lead decision."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.governance.models import Decision
from app.governance.outcomes import LeadFacts, summarise
from app.packs.leads.models import Action
from app.packs.leads.views import PHRASES, PLOT, effects, figures, view_of

PAGE = (
    "**Was kostet es?** Start kostet 4,50 € im Monat je Sensor. Operate kostet 6,90 € im Monat je Sensor, mit "
    "Schnittstellen und Support an allen Tagen der Woche.\n\nLieferung dauert drei Tage.\n\n"
    "Eine Rückgabe ist immer möglich.\n\nEin weiterer Satz steht hier."
)
QUOTE = "Lieferung dauert drei Tage."


def stored(**changes) -> Decision:
    inputs = {
        "lead": {
            "name": "Ada",
            "company": None,
            "language": "de",
            "country": None,
            "source": "email",
            "attributes": {},
        },
        "message": "Was kostet es?",
        "enrichment": {"language": "de", "email_kind": "company", "domain": "a.example", "signals": ["asks_price"]},
        "score": {
            "probability": changes.pop("score", 0.4),
            "version": "rules-1",
            "contributions": [["can decide", "owner", 0.7]],
        },
        "passages": [
            {"chunk_id": "weak", "document_id": "d2", "title": "Weak", "text": "Other.", "score": 0.2, "weak": True},
            {"chunk_id": "cited", "document_id": "d1", "title": "Prices", "text": PAGE, "score": 0.9},
            {"chunk_id": "spare", "document_id": "d1", "title": "Spare", "text": PAGE, "score": 0.95},
        ],
        "thresholds": {"pursue": 0.05, "escalate": 0.9, "confidence": 0.45, "evidence": 0},
        "today": "2026-03-02",
    }
    reply = changes.pop("reply", f"Guten Tag, {QUOTE}")
    answer = {
        "model": {"action": "respond", "confidence": 0.8, "reply": f"Guten Tag, {QUOTE}", "subject": "Preis"},
        "overrides": [],
        "quiet": False,
        "subject": "Preis" if reply else "",
        "reply": reply,
        "follow_up_days": None,
        "slot": None,
    } | changes.pop("answer", {})
    row = {"chunk_id": "cited", "document_id": "d1", "title": "Prices", "score": 0.9, "quote": PAGE}
    return Decision(inputs=inputs, answer=answer, evidence=[row], confidence=changes.pop("confidence", 0.8))


def test_every_action_reads_as_a_sentence():
    assert set(PHRASES) == set(Action)


def test_cited_passages_come_first_and_say_which_sentence_was_quoted():
    cited, spare, weak = view_of(stored()).passages
    assert (cited.cited, spare.cited, weak.weak) == (True, False, True)
    assert [text for text, quoted in cited.parts if quoted] == [QUOTE]
    assert not any(quoted for _, quoted in spare.parts)


def test_an_excerpt_shows_the_quote_with_its_neighbours_and_marks_what_is_left_out():
    cited = view_of(stored()).passages[0]
    texts = [text for text, _ in cited.excerpt]
    place = texts.index(QUOTE)
    assert texts[0] is None
    assert texts[place + 1].startswith("Eine Rückgabe")
    assert texts[-1] is None
    assert cited.shortened


def test_a_passage_that_is_not_quoted_word_for_word_shows_its_beginning():
    cited = view_of(stored(reply="Vier fünfzig.")).passages[0]
    assert cited.excerpt[0] == ("Was kostet es?", False)
    assert cited.excerpt[-1] == (None, False)


@pytest.mark.parametrize(
    ("score", "says"), [(0.04, "worth no meeting"), (0.05, "may act"), (0.89, "may act"), (0.9, "a person calls")]
)
def test_the_score_is_read_against_the_thresholds_that_were_in_force(score, says):
    gauge = view_of(stored(score=score)).gauges[0]
    assert says in gauge.says
    assert gauge.marks == (0.05, 0.9)


@pytest.mark.parametrize(("confidence", "says"), [(0.44, "a person decides"), (0.45, "may act alone")])
def test_so_is_the_confidence(confidence, says):
    assert says in view_of(stored(confidence=confidence)).gauges[1].says


def test_a_dropped_reply_is_shown_as_not_sent():
    view = view_of(stored(reply=""))
    assert view.mail is None
    assert QUOTE in view.dropped.body


def test_a_meetings_letter_names_the_time():
    slot = {"start": "2026-03-03T09:00:00Z", "end": "2026-03-03T09:30:00Z"}
    view = view_of(stored(reply="Bis {slot}!", answer={"slot": slot}))
    assert "2026-03-03 09:00" in view.mail.body
    assert "{slot}" not in view.mail.body


@given(st.lists(st.floats(-6, 6, allow_nan=False), max_size=12))
def test_bars_stay_inside_the_plot_share_one_scale_and_one_axis(weights):
    bars = effects([("f", "v", weight) for weight in weights])
    assert all(bar.start >= -1e-6 and bar.start + bar.width <= PLOT + 1e-6 for bar in bars)
    axes = [bar.start if bar.log_odds >= 0 else bar.start + bar.width for bar in bars if abs(bar.log_odds) > 1e-6]
    assert max(axes, default=0) - min(axes, default=0) < 1e-6
    scales = [bar.width / abs(bar.log_odds) for bar in bars if abs(bar.log_odds) > 1e-3]
    assert max(scales, default=1) - min(scales, default=1) < 1e-6 * max(scales, default=1)


def test_figures_name_their_sample_and_know_nothing_where_nothing_is_known():
    now = datetime(2026, 3, 2, tzinfo=UTC)
    facts = [LeadFacts(now, decided=True, converted=True), LeadFacts(now, decided=True, escalated=True)]
    converted, handed, needed, *_ = figures(summarise(facts))
    assert (converted.value, converted.of) == (1, 1)
    assert (handed.value, handed.of) == (0.5, 2)
    assert handed.low < 0.5 < handed.high
    assert (needed.value, needed.of, needed.low) == (None, 0, None)
