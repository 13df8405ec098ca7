"""The text on its way to the reader, cut into any pieces."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.conversation.cited import CitedText
from app.conversation.evidence import Evidence
from app.knowledge.base import Passage

TEXT = "See https://docs.example/guide or write to help@docs.example."


def evidence(count: int = 3) -> Evidence:
    return Evidence([Passage(f"c{n}", f"d{n}", "s", "T", "H", TEXT, 0.9, weak=False) for n in range(count)])


def passed(pieces: list[str], count: int = 3) -> tuple[str, list[int]]:
    cited = CitedText(evidence(count))
    out = [cited.feed(piece) for piece in pieces] + [cited.end()]
    assert "".join(text for text, _ in out).strip() == cited.text
    return cited.text, [number for _, fresh in out for number in fresh]


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


SAMPLES = [
    "Four euro [1]. Paid [2, 3], never [9] and not [1, 8].",
    "Look at https://docs.example/guide, not at https://evil.example/x?q=1 or evil.example.",
    "An image ![pixel](https://evil.example/a.png?d=secret) and ![ no image.",
    "a[1] list[2024] [ 3 ] [1;2] [] [x] ![",
    "www.evil.example and help@docs.example; mail me@evil.example!",
    "費用は月額四ユーロです[1]。詳しくは evil.example をご覧ください[2]。",
    "Visit [our page](https://evil.example/q) or [the guide](https://docs.example/guide) [3].",
]


@given(st.sampled_from(SAMPLES), st.lists(st.integers(0, 200), max_size=40))
def test_however_it_is_cut_the_reader_gets_the_same(text: str, places: list[int]) -> None:
    assert passed(cut(text, places)) == passed([text])


@given(st.text(alphabet="ab [](1239,!:/.w@\n", max_size=80), st.lists(st.integers(0, 200), max_size=20))
def test_no_unknown_number_gets_through(text: str, places: list[int]) -> None:
    kept, numbers = passed(cut(text, places), count=1)
    assert "[2]" not in kept
    assert "[3]" not in kept
    assert set(numbers) <= {1}
    assert len(numbers) <= 1


def test_each_number_is_reported_at_its_first_use_only() -> None:
    assert passed(["One [2", "] two [1][2] three [1, 2, 3]."]) == ("One [2] two [1][2] three [1, 2, 3].", [2, 1, 3])


def test_unknown_numbers_go_with_their_space() -> None:
    assert passed(["It is so [7]. And [1, 9] too [8, 9]!"]) == ("It is so. And [1] too!", [1])


def test_links_that_no_passage_has_are_cut_and_others_stay() -> None:
    text, _ = passed(["Go to https://docs.example/guide or https://docs.example/guide?leak=secret."])
    assert text == "Go to https://docs.example/guide or [link removed]."


def test_an_image_is_cut_whole() -> None:
    assert passed(["x ![a", "](https://docs.exa", "mple/guide) y"])[0] == "x [link removed] y"


def test_only_what_may_become_something_is_held_back() -> None:
    cited = CitedText(evidence())
    assert cited.feed("The price is ")[0] == "The price is"
    assert cited.feed("four euro")[0] == " four "
    assert cited.feed(" [")[0] == "euro"
    assert cited.feed("1] a ")[0] == " [1] a"
    assert cited.end()[0] == " "


def test_what_was_said_before_a_reset_is_gone() -> None:
    cited = CitedText(evidence())
    cited.feed("Let me see [1] and htt")
    cited.reset()
    assert cited.feed("Blue [1].", last=True) == ("Blue [1].", [1])
    assert cited.text == "Blue [1]."
