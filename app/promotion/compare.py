"""Whether two sides have the same rows: checksums of chunks, of which only those that change are made again."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.errors import Conflict
from app.promotion.side import Key, Range, Row, Snapshot
from app.promotion.steps import Progress
from app.promotion.tables import MovedTable
from app.promotion.values import added, checksum, digest, key_of

SPLIT: Final = 2
"""A chunk that grew to so many pages becomes several."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of a range of keys, which ends with `high` (None: open). The sums are of both sides."""

    high: Key | None
    rows: int
    here: int
    there: int


@dataclass(slots=True)
class Chunks:
    """Of one table, in the order of the source's keys, without a gap."""

    table: MovedTable
    found: list[Chunk] = field(default_factory=list)
    dirty: set[int] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        return bool(self.found) and self.found[-1].high is None

    @property
    def bounds(self) -> list[Key]:
        return [chunk.high for chunk in self.found if chunk.high is not None]

    def low(self, place: int) -> Key | None:
        return self.found[place - 1].high if place else None


@dataclass(frozen=True, slots=True)
class Verified:
    """A table at the switch, the same on both sides."""

    table: str
    rows: int
    checksum: str


class Comparison:
    """Of all tables. Raises Conflict for a table that differs, naming a row."""

    def __init__(self, tables: Sequence[MovedTable]) -> None:
        self._chunks = {table: Chunks(table) for table in tables}
        self.verified: tuple[Verified, ...] = ()

    @property
    def complete(self) -> bool:
        return all(chunks.complete for chunks in self._chunks.values())

    async def go_on(self, here: Snapshot, there: Snapshot, until: float, progress: Progress) -> None:
        """Reads both sides on, for as long; then what was read before and has changed since."""
        for place, chunks in enumerate(self._chunks.values()):
            while not chunks.complete:
                chunks.found.append(await _chunk(chunks.table, Range(chunks.low(len(chunks.found))), here, there))
                if time.monotonic() > until:
                    return
            progress("compare", place + 1, len(self._chunks))
        await self.again(here, there)

    async def dirty(self, here: Snapshot, changed: Mapping[MovedTable, Sequence[Key]]) -> None:
        """Notes which chunks these rows are in."""
        for table, keys in changed.items():
            chunks = self._chunks[table]
            if chunks.found:
                places = await here.places(table, keys, chunks.bounds)
                chunks.dirty.update(place for place in places if place < len(chunks.found))

    async def again(self, here: Snapshot, there: Snapshot) -> None:
        """Reads the chunks that have changed."""
        for chunks in self._chunks.values():
            # From the last one: a chunk that is split moves those after it.
            for place in sorted(chunks.dirty, reverse=True):
                chunks.found[place : place + 1] = await _chunks(chunks, place, here, there)
            chunks.dirty.clear()

    async def counted(self, here: Snapshot, there: Snapshot) -> None:
        """What the chunks say is all that either side has."""
        verified = []
        for table, chunks in self._chunks.items():
            rows = sum(chunk.rows for chunk in chunks.found)
            counts = await here.count(table), await there.count(table)
            if counts != (rows, rows):
                raise Conflict(
                    f"The table {table.name} has {counts[0]} rows on the side that is left and {counts[1]} on the "
                    f"other, where {rows} were compared: run the same command again."
                )
            verified.append(Verified(table.name, rows, f"{added(chunk.here for chunk in chunks.found):032x}"))
        self.verified = tuple(verified)


async def _chunks(chunks: Chunks, place: int, here: Snapshot, there: Snapshot) -> list[Chunk]:
    """A chunk read again, as several where it has grown."""
    high, low, made = chunks.found[place].high, chunks.low(place), list[Chunk]()
    while True:
        chunk = await _chunk(chunks.table, Range(low, high), here, there)
        made.append(chunk)
        if chunk.high == high:
            return made
        low = chunk.high


async def _chunk(table: MovedTable, within: Range, here: Snapshot, there: Snapshot) -> Chunk:
    """The first rows of a range, on both sides; it ends with the range where there are few."""
    rows = await here.page(table, within, table.page_rows * SPLIT)
    if len(rows) < table.page_rows * SPLIT:
        high = within.high
    else:
        rows = rows[: table.page_rows]
        high = key_of(table, rows[-1])
    others = await there.rows(table, [key_of(table, row) for row in rows]) if rows else []
    sums = checksum(table, rows), checksum(table, others)
    if sums[0] != sums[1]:
        raise _difference(table, rows, others)
    return Chunk(high, len(rows), *sums)


def _difference(table: MovedTable, here: Sequence[Row], there: Sequence[Row]) -> Conflict:
    digests = {key_of(table, row): digest(table, row) for row in there}
    first = next(
        key for key in (key_of(table, row) for row in here if digests.get(key_of(table, row)) != digest(table, row))
    )
    what = "is not the same" if first in digests else "is missing"
    return Conflict(
        f"The row {table.name}/{'/'.join(map(str, first))} {what} on the side that is moved to: something else wrote "
        "there, or the change log was taken away. Start again on an empty database."
    )
