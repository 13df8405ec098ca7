"""A person at a terminal: what is shown, what is asked, what a broken line and Ctrl-C do."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.administration import events as stream_events
from app.terminal import client as terminal_client
from app.terminal.client import Place
from tests.support.talking import STREAM, Script, Talking, answer, talking, told

CITATION = {"number": 1, "title": "Parental leave", "heading": "How long", "score": 0.8123}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_events, "RESUME_AFTER_S", 0.0)


def test_an_answer_is_shown_with_its_sources_its_price_and_its_cache(tmp_path: Path) -> None:
    script = Script(told("Fourteen weeks.", citations=[CITATION]))
    with talking(script, tmp_path) as talk:
        assert talk.talk.once("How long?")
        script.events = told("Fourteen weeks.", cache="exact", cost_usd=0, saved_usd=0.00012)
        assert talk.talk.once("How long?")
    first, _, second = talk.shown.partition("1.23 s\n")
    assert first == (
        "Fourteen weeks. \n[1] Parental leave · How long · 0.81\n$0.00012 · 100 + 20 tokens · gpt-4o-mini · "
    )
    assert "from the cache of answers, $0.00012 saved" in second
    assert (script.questions, script.tokens) == (["How long?"] * 2, 1)


def test_what_was_said_before_a_tool_is_not_the_answer(tmp_path: Path) -> None:
    used = {"call_id": "c1", "tool": "claims_list", "state": "started"}
    events = told("One moment, please.")
    tools = [{**used, "state": "done"}]
    events[-1:] = [("tool", used), ("tool", tools[0]), ("done", answer("Two claims are open.", tools=tools))]
    with talking(Script(events), tmp_path) as talk:
        assert talk.talk.once("Which are open?")
        talk.talk.many(iter_of("/history", "/quit"))
    assert "please. \nlooks up claims_list\nTwo claims are open.\n" in talk.shown
    assert "used claims_list" in talk.shown
    assert talk.shown.endswith("> Which are open?\nTwo claims are open.\n")


@pytest.mark.parametrize("cuts", [[2], [1, 3, 4]])
def test_a_broken_connection_is_taken_up_behind_the_last_event(tmp_path: Path, cuts: list[int]) -> None:
    script = Script(cuts=list(cuts))
    with talking(script, tmp_path) as talk:
        assert talk.talk.once("How long?")
    assert talk.shown.startswith("Fourteen weeks, paid in full. \n")
    assert script.resumed == [f"{STREAM}.{number}" for number in cuts]
    assert len(script.questions) == 1


def test_a_stream_that_keeps_breaking_is_given_up_with_a_sentence(tmp_path: Path) -> None:
    script = Script(told("a b c d e f g h"), cuts=list(range(1, 9)))
    with talking(script, tmp_path) as talk:
        assert not talk.talk.once("How long?")
    assert "error: The connection broke and could not be taken up again: ask again." in talk.shown
    assert len(script.resumed) == stream_events.RESUMES


def test_a_stream_without_an_event_is_not_asked_again(tmp_path: Path) -> None:
    script = Script(events=[])
    with talking(script, tmp_path) as talk:
        assert not talk.talk.once("How long?")
    assert "error: The server ended the answer before it began: ask again." in talk.shown
    assert script.questions == ["How long?"]


def test_a_refusal_and_an_error_in_the_stream_are_the_servers_own_sentences(tmp_path: Path) -> None:
    script = Script(refuse=(429, "You may send 10 requests a minute here: wait 7 s."))
    with talking(script, tmp_path) as talk:
        assert not talk.talk.once("How long?")
        script.refuse, script.events = None, [*told("Half an")[:3], ("error", {"detail": "The model broke off."})]
        assert not talk.talk.once("How long?")
        talk.talk.many(iter_of("/history", "/quit"))
    assert "error: You may send 10 requests a minute here: wait 7 s.\n" in talk.shown
    assert "error: The model broke off.\n" in talk.shown
    assert talk.shown.endswith("Nothing was said yet.\n")


def test_an_answer_cannot_steer_the_terminal(tmp_path: Path) -> None:
    title = "\x1b]0;owned\x07Leave"
    script = Script(told("\x1b[2J\x9bred [bold]brackets[/bold] stay", citations=[{**CITATION, "title": title}]))
    with talking(script, tmp_path) as talk:
        assert talk.talk.once("How long?")
    assert not {"\x1b", "\x9b", "\x07"} & set(talk.shown)
    assert "[bold]brackets[/bold] stay" in talk.shown


def test_new_forgets_on_the_server_and_here(tmp_path: Path) -> None:
    script = Script()
    with talking(script, tmp_path) as talk:
        talk.talk.many(iter_of("How long?", "/new", "/history", "/nope", "", "/quit", "never asked"))
    assert (script.forgotten, script.questions) == (1, ["How long?"])
    after = talk.shown.partition("Forgotten: a new conversation begins.")[2]
    assert "Nothing was said yet." in after
    assert "There is no /nope" in after


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_the_end_of_the_input_or_ctrl_c_at_the_prompt_ends_the_talk(tmp_path: Path, end: type[BaseException]) -> None:
    def ask() -> str:
        raise end

    script = Script()
    with talking(script, tmp_path) as talk:
        talk.talk.many(ask)
    assert not script.questions
    assert talk.shown.endswith("\n\n")


@pytest.mark.timeout(90)
def test_ctrl_c_stops_the_answer_under_way_and_not_the_talk(tmp_path: Path) -> None:
    script = Script(hang_after=3)
    with talking(script, tmp_path) as talk:
        pressed = threading.Thread(target=press_when_shown, args=(talk, "weeks"))
        pressed.start()
        assert not talk.talk.once("How long?")
        pressed.join()
        until = time.monotonic() + 60
        while not script.gone and time.monotonic() < until:
            time.sleep(0.01)
        assert script.gone == 1
        script.hang_after = None
        assert talk.talk.once("And now?")
    assert "Fourteen weeks, \nstopped\nFourteen weeks, paid in full." in talk.shown


def press_when_shown(talk: Talking, text: str) -> None:
    until = time.monotonic() + 10
    while text not in talk.shown and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def test_a_token_is_renewed_before_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, now = Script(), time.time()
    with talking(script, tmp_path) as talk:
        assert talk.talk.once("How long?")
        monkeypatch.setattr(terminal_client.time, "time", lambda: now + 800)
        assert talk.talk.once("How long?")
        assert script.tokens == 1
        monkeypatch.setattr(terminal_client.time, "time", lambda: now + 900)
        assert talk.talk.once("How long?")
    assert script.tokens == 2


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with talking(Script(), tmp_path) as talk:
        talk.client._address = "http://127.0.0.1:1"
        assert not talk.talk.once("How long?")
    assert "error: Nothing answers at http://127.0.0.1:1" in talk.shown


def test_each_bot_has_its_own_addresses() -> None:
    assert Place.of("claims") == Place("/v1/claims/chat", "/v1/claims/memory")
    assert Place.of("a b") == Place("/v1/bots/a%20b/chat", "/v1/bots/a%20b/memory")


def iter_of(*lines: str) -> Callable[[], str]:
    left = iter(lines)
    return lambda: next(left)
