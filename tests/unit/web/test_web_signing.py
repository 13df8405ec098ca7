"""Tokens: only what we signed, for what we signed it, as long as we said."""

import stat
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings import load_settings
from app.web.signing import SECRET_FILE, make_ticket, read_ticket, sign, signing_key, unsign

KEY = b"k" * 32
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def test_a_ticket_names_its_key_for_ten_minutes():
    ticket = make_ticket(KEY, "key_1", NOW)
    assert read_ticket(KEY, ticket, NOW + timedelta(minutes=9, seconds=59)).key_id == "key_1"
    assert read_ticket(KEY, ticket, NOW + timedelta(minutes=10)) is None


def test_two_tickets_differ_so_that_each_can_be_used_once():
    first, second = (read_ticket(KEY, make_ticket(KEY, "key_1", NOW), NOW) for _ in range(2))
    assert first.nonce != second.nonce


def test_a_token_is_good_for_its_purpose_and_its_key_only():
    token = sign(KEY, "session", {"key": "key_1"})
    assert unsign(KEY, "session", token) == {"key": "key_1"}
    assert unsign(KEY, "ticket", token) is None
    assert unsign(b"x" * 32, "session", token) is None


@given(st.text(max_size=80))
def test_no_text_passes_for_a_token(text):
    assert unsign(KEY, "session", text) is None


@given(st.integers(0, 200), st.sampled_from("AZaz09-_."))
def test_no_changed_character_passes(place, character):
    token = sign(KEY, "session", {"key": "key_1", "expires": 1})
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]
    assert changed == token or unsign(KEY, "session", changed) is None


def test_a_set_secret_signs(tmp_path):
    settings = load_settings({}, home=tmp_path, session_secret="a secret of their own")
    assert signing_key(settings) == b"a secret of their own"
    assert not (tmp_path / SECRET_FILE).exists()


def test_the_printed_default_signs_nothing_a_random_one_is_kept(tmp_path):
    home = tmp_path / "home"
    first = signing_key(load_settings({}, home=home))
    assert len(first) >= 32
    assert signing_key(load_settings({}, home=home)) == first
    assert [path.name for path in home.iterdir()] == [SECRET_FILE]
    assert stat.S_IMODE((home / SECRET_FILE).stat().st_mode) == 0o600
    assert signing_key(load_settings({}, home=tmp_path / "other")) != first


def test_a_very_long_token_is_not_even_hashed(monkeypatch):
    monkeypatch.setattr("app.web.signing._mac", lambda *_: pytest.fail("hashed"))
    assert unsign(KEY, "session", "a" * 100_000) is None
