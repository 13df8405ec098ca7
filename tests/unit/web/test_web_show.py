"""How values read."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.web.show import Wording, duration, filters, percent, plural, usd, when


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "–"), (0, "0%"), (0.004, "0.4%"), (0.0999, "10.0%"), (0.1, "10%"), (0.824, "82%"), (1, "100%")],
)
def test_shares_read_as_percents(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("amount", "text"), [(None, "–"), (0, "$0.00"), (0.000012, "$0.000012"), (0.0012, "$0.0012"), (1234.5, "$1,234.50")]
)
def test_small_amounts_keep_the_digits_that_matter(amount, text):
    assert usd(amount) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0.0 ms"),
        (0.0412, "41.2 ms"),
        (0.0996, "100 ms"),
        (0.5, "500 ms"),
        (1.25, "1.2 s"),
        (119, "119.0 s"),
        (120, "2 min"),
        (7200, "2 h"),
        (172_800, "2 d"),
    ],
)
def test_durations_read_in_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text


def test_times_are_shown_in_utc_with_the_machine_form_beside_it():
    moment = datetime(2026, 3, 2, 10, 5, tzinfo=timezone(timedelta(hours=1)))
    assert when(moment) == '<time datetime="2026-03-02T09:05:00+00:00">2 Mar 2026, 09:05 UTC</time>'
    assert when(moment.isoformat()) == when(moment.astimezone(UTC))
    assert when(None) == "–"


def test_names_read_as_words():
    wording = Wording({"email_send": "E-mail"})
    assert wording.words("email_send") == "E-mail"
    assert wording.words("some_new_tool") == "some new tool"


def test_a_packs_words_stand_beside_the_shells():
    words = filters({"email_send": "E-mail"})["words"]
    assert words("email_send") == "E-mail"
    assert words("waiting_approval") == "waiting for approval"


def test_counts_carry_their_noun():
    assert plural(1, "entry", "entries") == "1 entry"
    assert plural(2000, "lead") == "2,000 leads"


def test_nested_values_read_as_a_sentence():
    wording = Wording({"crm_note": "Note"})
    assert wording.inline({"crm_note": "done", "parts": {}, "n": 1}) == "Note: done, parts: none, n: 1"
    assert wording.inline("text") == "text"
    assert wording.inline([1, "a"]) == '[1,"a"]'
