"""What counts as a promise that was kept, what the table says of it, and that the names can be relied on."""

import asyncio
from pathlib import Path

import pytest

from tests.chaos.fault import CannotBeMade, Promise, Seen, Stage, broken
from tests.chaos.faults import FAULTS
from tests.chaos.leads import lost_and_doubled
from tests.chaos.load import Load, Try, codes, percentile_ms
from tests.chaos.run import Outcome, cells, make, table, write_into
from tests.support.components import COMPONENTS


class Made:
    """A fault of these tests, which sees what it is told to."""

    name, title = "made", "A fault"
    needs: tuple[str, ...] = ()

    def __init__(self, promise: Promise, seen: Seen | Exception) -> None:
        self.promise = promise
        self._seen = seen

    async def run(self, stage: Stage) -> Seen:
        assert stage.folder.is_dir()
        if isinstance(self._seen, Exception):
            raise self._seen
        return self._seen


def test_a_promise_is_kept_only_where_everything_was_measured_and_is_within_it() -> None:
    promise = Promise("text", failed=2, recovery_s=5, figures={"p99_ratio": 1.5})
    kept = Seen(tried=10, failed=2, recovery_s=5, figures={"p99_ratio": 1.5})
    assert broken(promise, kept) == []
    assert broken(promise, Seen(tried=10, failed=3, lost=1, doubled=1, recovery_s=5.1, figures={"p99_ratio": 1.6})) == [
        "failed 3, promised 2",
        "lost 1, promised 0",
        "doubled 1, promised 0",
        "recovery 5.1 s, promised 5 s",
        "p99_ratio 1.6, promised 1.5",
    ]
    assert broken(promise, Seen(tried=10)) == ["no recovery, promised 5 s", "p99_ratio not measured, promised 1.5"]
    assert broken(Promise("text"), Seen()) == ["nothing was tried"]


def test_a_figure_that_is_no_number_keeps_no_promise() -> None:
    promise = Promise("text", figures={"p99_ms": 10})
    assert broken(promise, Seen(tried=1, figures={"p99_ms": percentile_ms([], 99)})) == ["p99_ms nan, promised 10"]


async def test_an_error_in_a_run_is_a_promise_that_was_not_kept_and_a_machine_that_forbids_it_is_none() -> None:
    failed = await make(Made(Promise("text"), ValueError("no")), seeds=1)
    assert failed.broken == ("the run failed: ValueError: no",)
    forbidden = await make(Made(Promise("text"), CannotBeMade("needs root")), seeds=1)
    assert (forbidden.broken, forbidden.skipped) == ((), "needs root")
    kept = await make(Made(Promise("text"), Seen(tried=1)), seeds=1)
    assert (kept.broken, kept.verdict) == ((), "kept")


def test_the_table_names_every_kind_of_failure(tmp_path: Path) -> None:
    seen = Seen(tried=3, failed=2, recovery_s=1.26, figures={"stale": 0}, kinds={"503 unavailable": 2})
    outcome = Outcome(Made(Promise("what is promised"), seen), seen, 2.0, ("failed 2, promised 0",))
    row = cells(outcome)
    assert row[:4] == ("A fault (`made`)", "what is promised", "3", "2 (2 x 503 unavailable)")
    assert row[4:] == ("0", "0", "1.3 s", "stale 0", "BROKEN: failed 2, promised 0")
    page = tmp_path / "faults.md"
    page.write_text("before\n<!-- faults -->\nold\n<!-- /faults -->\nafter\n")
    write_into(page, f"{table([outcome])}\n")
    assert page.read_text().startswith("before\n<!-- faults -->\n| fault |")
    assert page.read_text().endswith("<!-- /faults -->\nafter\n")
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the marks"):
        write_into(page, "text")


def test_every_fault_has_a_name_of_its_own_a_promise_and_known_needs() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    for fault in FAULTS:
        assert set(fault.needs) <= set(COMPONENTS)
        assert fault.promise.text
        assert fault.promise.lost == fault.promise.doubled == 0
        assert fault.promise.recovery_s is not None


def test_lost_are_those_acknowledged_and_missing_doubled_those_found_again() -> None:
    assert lost_and_doubled({"a", "b"}, ["b", "b", "c"]) == (1, 1)


async def test_a_load_goes_on_past_failures_and_raises_an_error_of_its_own() -> None:
    async def send(number: int) -> Try:
        return Try(0.0, 0.1, 200 if number % 2 else 503, "" if number % 2 else "unavailable")

    async with Load(send, rate=500) as load:
        while len(load.tries) < 10:
            await asyncio.sleep(0)
    assert codes(load.tries)["503 unavailable"] >= 5

    async def wrong(_number: int) -> Try:
        raise KeyError("id")

    with pytest.raises(KeyError):
        async with Load(wrong, rate=500):
            await asyncio.sleep(0.05)
