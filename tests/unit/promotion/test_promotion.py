"""A promotion between two files: no row is lost, whatever is written meanwhile and wherever the process dies."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Conflict, Unavailable
from app.promotion import moving
from app.promotion.ending import finish, standing
from app.promotion.side import Gate
from app.promotion.steps import Context, StepReport
from app.storage.moved import MOVED
from tests.support.examples import examples
from tests.support.promotion import TABLES, Killed, Life, Mortal, add_parents, connect, new_file, promotion, rows, side

PARENTS = 14


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    old, new = new_file(tmp_path / "old.db"), new_file(tmp_path / "new.db")
    with connect(old) as connection:
        add_parents(connection, PARENTS)
    return old, new


def write(path: Path, *statements: str) -> None:
    connection = connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.close()


async def test_every_row_is_moved_and_the_old_side_refuses_writes(files: tuple[Path, Path]) -> None:
    old, new = files
    report = await promotion(side(old), side(new)).run()
    assert rows(new) == rows(old)
    assert report.copied == {"parents": PARENTS, "children": PARENTS, "workflow_status": 0}
    assert [(table.table, table.rows) for table in report.tables][:2] == [("parents", PARENTS), ("children", PARENTS)]
    with pytest.raises(sqlite3.IntegrityError, match=MOVED):
        write(old, "DELETE FROM parents")
    write(new, "DELETE FROM parents WHERE id = 'parent_0001'")


async def test_the_way_back_brings_what_was_written_since(files: tuple[Path, Path]) -> None:
    old, new = files
    await promotion(side(old), side(new)).run()
    write(
        new,
        "DELETE FROM parents WHERE id = 'parent_0003'",
        "UPDATE parents SET name = 'new', data = NULL WHERE id = 'parent_0004'",
        "INSERT INTO children VALUES ('parent_0004', 2, NULL)",
    )
    report = await promotion(side(new), side(old)).run()
    assert rows(old) == rows(new)
    assert (sum(report.copied.values()), report.changes_applied) == (0, 4)
    write(old, "DELETE FROM children")
    with pytest.raises(sqlite3.IntegrityError, match=MOVED):
        write(new, "DELETE FROM children")
    await promotion(side(old), side(new)).run()
    assert rows(new) == rows(old)


def one_write() -> st.SearchStrategy[str]:
    ids = st.integers(0, PARENTS + 4).map("'parent_{:04d}'".format)
    names = st.integers(0, 5).map("'name-{}'".format)
    return st.one_of(
        st.builds("INSERT OR IGNORE INTO parents (id, tenant_id, name) VALUES ({}, 'acme', {})".format, ids, names),
        st.builds("UPDATE OR IGNORE parents SET name = {1}, number = number + 1 WHERE id = {0}".format, ids, names),
        st.builds(
            "UPDATE OR IGNORE parents SET id = {} WHERE id = {} AND id NOT IN (SELECT parent_id FROM children)".format,
            ids,
            ids,
        ),
        st.builds("DELETE FROM parents WHERE id = {}".format, ids),
        st.builds("INSERT OR IGNORE INTO children SELECT id, 2, NULL FROM parents WHERE id = {}".format, ids),
        st.builds("DELETE FROM children WHERE parent_id = {}".format, ids),
    )


@settings(max_examples=examples(25))
@given(
    writes=st.lists(one_write(), min_size=1, max_size=60),
    every=st.integers(1, 3),
    round_s=st.sampled_from([0.0, 20.0]),
)
def test_writes_between_any_two_steps_end_in_the_same_rows(writes: Sequence[str], every: int, round_s: float) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving, "ROUND_S", round_s)
        old, new = new_file(Path(folder) / "old.db"), new_file(Path(folder) / "new.db")
        connection = connect(old)
        add_parents(connection, PARENTS)
        waiting = list(writes)

        def progress(*_: object) -> None:
            for _ in range(every):
                if waiting:
                    connection.execute(waiting.pop())

        asyncio.run(promotion(side(old), side(new), progress).run())
        connection.close()
        assert rows(new) == rows(old)


@settings(max_examples=examples(25))
@given(life=st.integers(1, 130), second=st.integers(1, 60), writes=st.lists(one_write(), max_size=10))
def test_a_run_after_a_kill_at_any_call_goes_on(life: int, second: int, writes: Sequence[str]) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving, "ROUND_S", 0.0)
        old, new = new_file(Path(folder) / "old.db"), new_file(Path(folder) / "new.db")
        with connect(old) as connection:
            add_parents(connection, PARENTS)
        for calls in (life, second):
            asyncio.run(killed(old, new, calls))
            write_where_it_is_let(old, writes)
        asyncio.run(whole(old, new))
        assert rows(new) == rows(old)


async def killed(old: Path, new: Path, calls: int) -> None:
    left = Life(calls)
    sides = side(old), side(new)
    with suppress(Killed):
        await promotion(Mortal(sides[0], left), Mortal(sides[1], left)).run()  # type: ignore[arg-type]
    for one in sides:
        await one.close()


def write_where_it_is_let(old: Path, writes: Sequence[str]) -> None:
    """As the clients of the old side do; a lease that is not over refuses them, and so does the end of the way."""
    connection = connect(old)
    for statement in writes:
        try:
            connection.execute(statement)
        except sqlite3.IntegrityError as error:
            if MOVED not in str(error):
                raise
    connection.close()


async def whole(old: Path, new: Path) -> None:
    sides = side(old), side(new)
    report = await promotion(*sides).run()
    assert {table.table: table.rows for table in report.tables} == {
        name: len(found) for name, found in rows(new).items()
    }
    assert (await sides[0].gate(), await sides[1].gate()) == (Gate.CLOSED, Gate.OPEN)
    for one in sides:
        await one.close()


class SlowStep:
    """Takes its time while nobody may write."""

    name = "slow"

    async def run(self, _context: Context) -> StepReport:
        return StepReport(self.name)

    async def settle(self, _context: Context) -> StepReport:
        await asyncio.sleep(30)
        return StepReport(self.name)

    async def verify(self, _context: Context) -> StepReport:
        return StepReport(self.name)


async def test_a_switch_that_takes_too_long_is_called_off(files: tuple[Path, Path]) -> None:
    old, new = files
    sides = side(old), side(new)
    with pytest.raises(Unavailable, match="called off"):
        await promotion(*sides, steps=[SlowStep()], switch_s=0.5).run()
    write(old, "DELETE FROM children WHERE parent_id = 'parent_0001'")
    assert await sides[1].gate() is Gate.CLOSED
    await promotion(*sides).run()
    assert rows(new) == rows(old)


class SecondRun(SlowStep):
    """Runs the same promotion, and its end, once more in the midst of the switch."""

    def __init__(self, old: Path, new: Path) -> None:
        self._files = old, new
        self.refused: list[str] = []

    async def settle(self, _context: Context) -> StepReport:
        for attempt in (promotion(*map(side, self._files)).run, lambda: finish(*map(side, self._files))):
            with pytest.raises(Conflict) as caught:
                await attempt()
            self.refused.append(caught.value.detail)
        return StepReport(self.name)


async def test_a_second_run_beside_the_first_is_refused_and_opens_no_gate(files: tuple[Path, Path]) -> None:
    second = SecondRun(*files)
    await promotion(*map(side, files), steps=[second]).run()
    assert [detail.startswith("Another promotion") for detail in second.refused] == [True, True]
    assert [await side(path).gate() for path in files] == [Gate.CLOSED, Gate.OPEN]


async def test_a_lease_that_ends_without_a_word_lets_writes_in_again(files: tuple[Path, Path]) -> None:
    old, _ = files
    left = side(old)
    await left.install(closed=False)
    await left.close_writes(600)
    assert await left.gate() is Gate.LEASED
    with pytest.raises(sqlite3.IntegrityError, match=MOVED):
        write(old, "DELETE FROM children")
    write(old, "UPDATE promotion_gate SET until = until - 600")
    write(old, "DELETE FROM children")
    assert not await left.keep_closed()
    assert await left.gate() is Gate.OPEN
    assert await left.pending() == PARENTS


async def test_rows_that_somebody_else_wrote_there_are_found(files: tuple[Path, Path]) -> None:
    old, new = files

    def spoil(what: str, *_: object) -> None:
        if what == "copy children":
            with sqlite3.connect(new) as connection:
                connection.execute("UPDATE promotion_gate SET ours = 1")
                connection.execute("UPDATE parents SET share = 0.25 WHERE id = 'parent_0002'")
                connection.execute("UPDATE promotion_gate SET ours = 0")

    with pytest.raises(Conflict, match="parents/parent_0002 is not the same"):
        await promotion(side(old), side(new), spoil).run()


async def test_a_target_with_rows_is_refused_and_left_as_it_was(files: tuple[Path, Path]) -> None:
    old, new = files
    write(new, "INSERT INTO parents (id, tenant_id) VALUES ('parent_x', 'acme')")
    there = side(new)
    with pytest.raises(Conflict, match=r"is not empty: it has rows in parents \(1\)"):
        await promotion(side(old), there).run()
    assert not await there.installed()


async def test_the_end_for_good_leaves_no_trigger_and_no_way_back(files: tuple[Path, Path]) -> None:
    old, new = files
    here, there = side(old), side(new)
    await promotion(here, there).run()
    assert "takes no writes (closed)" in (await standing(here, there, TABLES))[0]
    assert f"{new} takes writes" in await finish(here, there)
    with sqlite3.connect(new) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name LIKE 'promotion%'").fetchone() == (0,)
    with pytest.raises(sqlite3.IntegrityError, match=MOVED):
        write(old, "DELETE FROM children")
    with pytest.raises(Conflict, match="ended for good"):
        await promotion(there, here).run()


async def test_running_jobs_are_handed_over_and_go_back_as_they_are(files: tuple[Path, Path]) -> None:
    old, new = files
    columns = "workflow_uuid, status, queue_name, owner_xid, recovery_attempts, created_at, updated_at, priority"
    write(old, f"INSERT INTO workflow_status ({columns}) VALUES ('job', 'PENDING', 'q', 'me', 1, 5, 5, 0)")
    await promotion(side(old), side(new)).run()
    with sqlite3.connect(new) as connection:
        found = connection.execute("SELECT status, owner_xid, recovery_attempts FROM workflow_status").fetchall()
    assert found == [("ENQUEUED", None, 0)]
    await promotion(side(new), side(old)).run()
    assert rows(old) == rows(new)
