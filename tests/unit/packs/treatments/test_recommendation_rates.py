"""Rates of similar cases: how few cases are drawn to many, and what a profile shows of them."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.packs.treatments.batching import batches, halves
from app.packs.treatments.fingerprint import fingerprint_of, vector_of
from app.packs.treatments.pace import BURST_S, Pace
from app.packs.treatments.profiles import Profile, rounded
from app.packs.treatments.rates import CaseRow, Look, Rate, rates, snapshot_of, strength_of

CALL = "call_back"
BASE = 0.05


def row(traits: Mapping[str, str], trials: int, successes: int, treatment: str = CALL) -> CaseRow:
    return CaseRow(fingerprint_of(traits), treatment, vector_of(traits), trials, successes)


def rate(rows: list[CaseRow], traits: Mapping[str, str], treatment: str = CALL, base: float = BASE) -> Rate:
    look = Look(fingerprint_of(traits), vector_of(traits))
    return rates(snapshot_of((0, None), rows), [look], {treatment: base})[look.fingerprint][treatment]


def many(**share: float) -> list[CaseRow]:
    """Twelve fingerprints of each kind of work, 100 cases each, with that share of successes."""
    return [
        row({"is.work": work, "is.town": f"town {n}"}, 100, round(100 * chance))
        for work, chance in share.items()
        for n in range(12)
    ]


def test_without_cases_the_catalogue_says_what_is_assumed() -> None:
    assert rate([], {"trend": "rising"}) == Rate(BASE, 0.0)
    assert rate(many(office=0.5), {"trend": "rising"}, treatment="email") == Rate(BASE, 0.0)


def test_many_cases_of_ones_own_outweigh_everything_else() -> None:
    own = {"is.work": "office", "is.town": "elsewhere"}
    found = rate([*many(office=0.1), row(own, 100_000, 60_000)], own)
    assert found.chance == pytest.approx(0.6, abs=0.02)
    assert found.trials >= 100_000


def test_one_lucky_case_changes_little() -> None:
    own = {"is.work": "office", "is.town": "elsewhere"}
    assert rate([*many(office=0.1), row(own, 1, 1)], own).chance < 0.2


def test_who_is_new_is_judged_by_what_their_traits_did_for_others() -> None:
    rows = many(office=0.3, trade=0.05)
    office, trade = (rate(rows, {"is.work": work, "is.town": "new"}).chance for work in ("office", "trade"))
    assert office == pytest.approx(0.3, abs=0.06)
    assert trade == pytest.approx(0.05, abs=0.04)


def test_neighbours_tell_what_the_traits_one_by_one_do_not() -> None:
    # Only both together make the difference: no sum of two effects says so.
    pairs = {("left", "up"): 0.5, ("left", "down"): 0.05, ("right", "up"): 0.05, ("right", "down"): 0.5}
    rows = [
        row({"is.side": side, "is.way": way, "is.town": f"town {n}"}, 200, round(200 * chance))
        for (side, way), chance in pairs.items()
        for n in range(20)
    ]
    up, down = (rate(rows, {"is.side": "left", "is.way": way, "is.town": "new"}) for way in ("up", "down"))
    assert up.chance > 0.4
    assert down.chance < 0.15
    assert up.trials > 200


def test_fingerprints_that_differ_beyond_chance_are_drawn_less() -> None:
    trials, chances = np.full(50, 100.0), np.full(50, 0.2)
    alike = strength_of(trials, np.full(50, 20.0), chances)
    apart = strength_of(trials, np.tile([0.0, 40.0], 25), chances)
    assert apart < 10 < alike


def test_vectors_of_an_older_layout_are_passed_over() -> None:
    old = CaseRow("old", CALL, [0.0, 1.0], 1_000, 900)
    assert rate([*many(office=0.1), old], {"is.work": "office"}).chance < 0.2


@given(
    counts=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10**6), st.floats(0, 1)), max_size=12),
    base=st.floats(0, 1),
)
def test_a_rate_is_always_a_probability(counts: list[tuple[int, int, float]], base: float) -> None:
    rows = list({work: row({"is.work": f"work {work}"}, n, int(n * share)) for work, n, share in counts}.values())
    for work in range(7):
        found = rate(rows, {"is.work": f"work {work}"}, base=base)
        assert 0 <= found.chance <= 1
        assert math.isfinite(found.trials)


@given(chance=st.floats(0, 1), trials=st.floats(0, 1e7))
def test_what_is_shown_is_near_what_is_known_and_the_same_when_rounded_again(chance: float, trials: float) -> None:
    shown = rounded(Rate(chance, trials))
    assert shown.chance == pytest.approx(chance, rel=0.07, abs=1e-300)
    assert shown.trials <= trials * (1 + 1e-6)
    assert rounded(shown) == shown


def profile(options: int) -> Profile:
    return Profile({}, {f"t{n}": Rate(0.1, 0) for n in range(options)}, Rate(0, 0))


@given(options=st.lists(st.integers(1, 50), max_size=80), most=st.integers(1, 30), tokens=st.integers(1, 5_000))
def test_batches_hold_every_profile_once_and_are_no_larger_than_allowed(
    options: list[int], most: int, tokens: int
) -> None:
    profiles = {f"k{n}": profile(count) for n, count in enumerate(options)}
    made = batches(profiles, most, tokens)
    assert [key for keys in made for key in keys] == list(profiles)
    assert all(1 <= len(keys) <= most for keys in made)
    assert all(len(keys) == 1 or sum(16 + 32 * len(profiles[key].options) for key in keys) <= tokens for keys in made)


@given(keys=st.lists(st.integers(), max_size=30))
def test_halves_are_the_whole_in_two_parts(keys: list[int]) -> None:
    parts = halves([str(key) for key in keys])
    assert [key for part in parts for key in part] == [str(key) for key in keys]
    assert len(parts) == min(2, len(keys))


async def test_tokens_beyond_the_burst_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("app.packs.treatments.pace.asyncio.sleep", sleep)
    pace = Pace(60_000)
    await pace.take(round(BURST_S * 1_000))
    await pace.take(2_000)
    await pace.take(500)
    pace.correct(-500)
    await pace.take(100)
    assert waits == pytest.approx([2.0, 2.0], abs=0.1)
    await Pace(None).take(10**9)
    assert len(waits) == 2
