"""Rows from one side to the other while the first is written: in rounds, each of which begins by what has changed.

A round reads one state of the source. What the change log says has changed is brought to the target first, in one
transaction, so the target is never a mixture: it has a part of the tables, as of one moment. Then the round copies, or
compares, what it can in its time. Log entries are forgotten when the target has them; one that is read twice does no
harm, since it only says which rows to look at.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final

from app.promotion.compare import Comparison
from app.promotion.side import Changes, Key, Side, Snapshot, Writing, parts
from app.promotion.steps import Progress
from app.promotion.tables import MovedTable
from app.promotion.values import key_of

ROUND_S: Final = 20.0
COPIED: Final = "copied"
"""The note on the target: tables that it has, the one under way, and its last key."""
QUICK_S: Final = 0.5
"""A round that takes no longer leaves no more than that to the switch."""
ROUNDS: Final = 50


class Figures:
    """What was done, for the report."""

    def __init__(self) -> None:
        self.copied: dict[str, int] = {}
        self.seconds = 0.0
        self.applied = 0


class Moving:
    """One direction of one promotion: copy, keep up, compare. `tables` are parents first."""

    def __init__(self, source: Side, target: Side, tables: Sequence[MovedTable], progress: Progress) -> None:
        self.source = source
        self.target = target
        self.tables = tables
        self.figures = Figures()
        self.comparison = Comparison(tables)
        self._progress = progress
        self._begun: set[str] = set()

    async def copy(self) -> None:
        """All tables, from where an earlier run came to."""
        before = (await self.target.state()).get(COPIED, noted(()))
        done, after = list(before["done"]), _key(before["after"])
        self._begun = set(done) | ({before["table"]} if before["table"] else set())
        started = time.monotonic()
        while len(done) < len(self.tables):
            async with self.source.snapshot() as snapshot:
                await self._absorb(snapshot)
                after = await self._copy_for_a_while(snapshot, done, after)
        self.figures.seconds += time.monotonic() - started

    async def _copy_for_a_while(self, snapshot: Snapshot, done: list[str], after: Key | None) -> Key | None:
        until = time.monotonic() + ROUND_S
        for table in (table for table in self.tables if table.name not in done):
            self._begun.add(table.name)
            async for after_ in self._copy_table(snapshot, table, done, after):
                after = after_
                if after is not None and time.monotonic() > until:
                    return after
            done.append(table.name)
            after = None
        return None

    async def _copy_table(
        self, snapshot: Snapshot, table: MovedTable, done: list[str], after: Key | None
    ) -> AsyncIterator[Key | None]:
        """Yields the last key after each page, None after the last."""
        total = await snapshot.count(table)
        rows = await snapshot.page(table, after, table.page_rows)
        while True:
            last = len(rows) < table.page_rows
            after = key_of(table, rows[-1]) if rows else after
            # The next page is read while this one is written.
            upcoming = None if last else asyncio.create_task(snapshot.page(table, after, table.page_rows))
            try:
                async with self.target.writing() as writing:
                    if rows:
                        await writing.put(table, rows)
                    await writing.note(COPIED, noted([*done, table.name]) if last else noted(done, table.name, after))
            finally:
                following = await upcoming if upcoming is not None else []
            self.figures.copied[table.name] = self.figures.copied.get(table.name, 0) + len(rows)
            self._progress(f"copy {table.name}", self.figures.copied[table.name], total)
            yield None if last else after
            if last:
                return
            rows = following

    async def keep_up(self) -> None:
        """Until a round is quick; where none of many is, the switch will say that it takes too long."""
        self._begun = {table.name for table in self.tables}
        for _ in range(ROUNDS):
            started = time.monotonic()
            async with self.source.snapshot() as snapshot:
                await self._absorb(snapshot)
                await self._compare_again(snapshot)
            self._progress("catch up", self.figures.applied, 0)
            if time.monotonic() - started <= QUICK_S:
                return

    async def compare(self) -> None:
        """Every row of both sides. Raises Conflict where they differ."""
        self._begun = {table.name for table in self.tables}
        while not self.comparison.complete:
            async with self.source.snapshot() as snapshot:
                await self._absorb(snapshot)
                async with self.target.snapshot() as there:
                    await self.comparison.go_on(snapshot, there, time.monotonic() + ROUND_S, self._progress)

    async def settle(self) -> None:
        """What is left, once nobody writes; then every table's count and checksum. Raises Conflict."""
        async with self.source.snapshot() as snapshot:
            await self._absorb(snapshot)
            async with self.target.snapshot() as there:
                await self.comparison.again(snapshot, there)
                await self.comparison.counted(snapshot, there)

    async def _compare_again(self, snapshot: Snapshot) -> None:
        async with self.target.snapshot() as there:
            await self.comparison.again(snapshot, there)

    async def _absorb(self, snapshot: Snapshot) -> None:
        """Brings what has changed to the target."""
        changes = await snapshot.changes()
        wanted = {table: changes.keys[table.name] for table in self.tables if self._is_wanted(table, changes)}
        if wanted:
            async with self.target.writing() as writing:
                await self._apply(snapshot, writing, wanted)
            self.comparison.dirty(wanted)
        await self.source.forget(changes)
        self.figures.applied += changes.entries

    def _is_wanted(self, table: MovedTable, changes: Changes) -> bool:
        return table.name in self._begun and table.name in changes.keys

    async def _apply(self, snapshot: Snapshot, writing: Writing, wanted: Mapping[MovedTable, Sequence[Key]]) -> None:
        """Deletes children first; then puts parents first, after the unique values of all changed rows were freed."""
        there = {table: await _existing(snapshot, table, keys) for table, keys in wanted.items()}
        for table in reversed(list(wanted)):
            gone = [key for key in wanted[table] if key not in there[table]]
            if gone:
                await writing.remove(table, gone)
        for table, keys in there.items():
            await writing.park(table, list(keys))
            for part in parts(list(keys), table.page_rows):
                await writing.put(table, await snapshot.rows(table, part))


async def _existing(snapshot: Snapshot, table: MovedTable, keys: Sequence[Key]) -> dict[Key, None]:
    found: dict[Key, None] = {}
    for part in parts(keys, table.page_rows):
        found |= dict.fromkeys(key_of(table, row) for row in await snapshot.rows(table, part))
    return found


def _key(value: Any) -> Key | None:
    return None if value is None else tuple(value)


def noted(done: Iterable[str], table: str | None = None, after: Key | None = None) -> dict[str, Any]:
    """The value of `COPIED`: `table` is under way, up to the key `after`."""
    return {"done": list(done), "table": table, "after": after}
