"""Whether two sides have the same rows: each is read once on both, and again only where it has changed since."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import orjson

from app.errors import Conflict
from app.promotion.side import Key, Row, Snapshot, parts
from app.promotion.steps import Progress
from app.promotion.tables import MovedTable
from app.promotion.values import DIGEST_BYTES, MODULUS, digest, key_of

_ENTRY: Final = np.dtype([("mark", "<u8"), ("digest", f"V{DIGEST_BYTES}")])
_NONE: Final = np.empty(0, _ENTRY)


@dataclass(frozen=True, slots=True)
class Verified:
    """A table at the switch, the same on both sides. `checksum`: the sum of its rows' digests modulo 2**128 in hex,
    which does not depend on their order (AdHash: Bellare and Micciancio, 1997)."""

    table: str
    rows: int
    checksum: str


class Digests:
    """Of a table's rows: 24 bytes for each, so that the sum can follow a row that changes without the others."""

    def __init__(self) -> None:
        self.rows = 0
        self.total = 0
        self._content = bytearray()
        self._read: np.ndarray[Any, Any] = _NONE
        self._marks: np.ndarray[Any, Any] = _NONE["mark"]
        self._changed: dict[int, int | None] = {}

    def add(self, found: Mapping[Key, int]) -> None:
        """Rows that are read for the first time."""
        for key, value in found.items():
            self._content += _mark(key).to_bytes(8, "little") + value.to_bytes(DIGEST_BYTES, "little")
        self.rows += len(found)
        self.total = (self.total + sum(found.values())) % MODULUS

    def seal(self) -> None:
        """All have been read."""
        read = np.frombuffer(bytes(self._content), _ENTRY)
        self._content.clear()
        self._read = read[np.argsort(read["mark"], kind="stable")]
        self._marks = np.ascontiguousarray(self._read["mark"])

    def change(self, key: Key, value: int | None) -> None:
        """None: the row is no more."""
        mark = _mark(key)
        before = self._changed[mark] if mark in self._changed else self._first(mark)
        self._changed[mark] = value
        self.rows += (value is not None) - (before is not None)
        self.total = (self.total + (value or 0) - (before or 0)) % MODULUS

    def _first(self, mark: int) -> int | None:
        place = int(np.searchsorted(self._marks, np.uint64(mark)))
        if place == len(self._marks) or int(self._marks[place]) != mark:
            return None
        return int.from_bytes(self._read["digest"][place].tobytes(), "little")


def _mark(key: Key) -> int:
    return int.from_bytes(blake2b(orjson.dumps(key), digest_size=8).digest(), "little")


class Comparison:
    """Of all tables. Raises Conflict for a table that differs, naming a row."""

    def __init__(self, tables: Sequence[MovedTable]) -> None:
        self.verified: tuple[Verified, ...] = ()
        self._found = {table: Digests() for table in tables}
        self._left = list(tables)
        self._after: Key | None = None
        self._dirty: dict[MovedTable, set[Key]] = {}

    @property
    def complete(self) -> bool:
        return not self._left

    async def go_on(self, here: Snapshot, there: Snapshot, until: float, progress: Progress) -> None:
        """Reads both sides on, for as long, and one page at least."""
        while self._left:
            table = self._left[0]
            rows = await here.page(table, self._after, table.page_rows)
            self._found[table].add(await _same(table, rows, there))
            self._after = key_of(table, rows[-1]) if rows else None
            if len(rows) < table.page_rows:
                self._found[table].seal()
                self._after = None
                self._left.pop(0)
                progress("compare", len(self._found) - len(self._left), len(self._found))
            if time.monotonic() > until:
                return

    def dirty(self, changed: Mapping[MovedTable, Sequence[Key]]) -> None:
        """Notes that these rows have changed."""
        for table, keys in changed.items():
            self._dirty.setdefault(table, set()).update(keys)

    async def again(self, here: Snapshot, there: Snapshot) -> None:
        """Reads the rows that have changed, of the tables that have been read."""
        for table in [table for table in self._dirty if table not in self._left]:
            for keys in parts(list(self._dirty[table]), table.page_rows):
                found = await _same(table, await here.rows(table, keys), there, keys)
                for key in keys:
                    self._found[table].change(key, found.get(key))
            del self._dirty[table]

    async def counted(self, here: Snapshot, there: Snapshot) -> None:
        """What was read is all that either side has."""
        verified = []
        for table, found in self._found.items():
            counts = await here.count(table), await there.count(table)
            if counts != (found.rows, found.rows):
                raise Conflict(
                    f"The table {table.name} has {counts[0]} rows on the side that is left and {counts[1]} on the "
                    f"other, where {found.rows} were compared: run the same command again."
                )
            verified.append(Verified(table.name, found.rows, f"{found.total:032x}"))
        self.verified = tuple(verified)


async def _same(
    table: MovedTable, rows: Sequence[Row], there: Snapshot, keys: Sequence[Key] | None = None
) -> dict[Key, int]:
    """The digests of rows of the source, which must be those of the rows with these keys on the other side."""
    found = {key_of(table, row): digest(table, row) for row in rows}
    asked = list(found) if keys is None else keys
    others = {key_of(table, row): digest(table, row) for row in await there.rows(table, asked)} if asked else {}
    if found != others:
        key = next(key for key in (*found, *others) if found.get(key) != others.get(key))
        what = "is missing" if key not in others else "is not the same" if key in found else "should not be"
        raise Conflict(
            f"The row {table.name}/{'/'.join(map(str, key))} {what} on the side that is moved to: something else wrote "
            "there, or the change log was taken away. Start again on an empty database."
        )
    return found
