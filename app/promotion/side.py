"""What a promotion asks of a database, whichever it is, and in whichever direction rows move."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from app.promotion.tables import MovedTable

Key = tuple[Any, ...]
"""A row's primary key: texts and integers."""
Row = tuple[Any, ...]
"""Values in the order of the table's columns, as app.promotion.values describes them."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a change log: this row was written or deleted; what it is now is looked up."""

    seq: int
    table: str
    key: Key


@dataclass(frozen=True, slots=True)
class Range:
    """Keys above `low` (None: from the first) up to `high`, in the order of the side that made it (None: to the end)."""

    low: Key | None
    high: Key | None


class Snapshot(Protocol):
    """One state of a side, as of one moment, whatever is written meanwhile."""

    async def changes(self, limit: int) -> Sequence[Change]:
        """Those that are not forgotten, oldest first."""
        ...

    async def page(self, table: MovedTable, within: Range, limit: int) -> Sequence[Row]:
        """The first rows of a range, in the order of their keys."""
        ...

    async def rows(self, table: MovedTable, keys: Sequence[Key]) -> Sequence[Row]:
        """Those of these rows that exist, in no order."""
        ...

    async def count(self, table: MovedTable) -> int: ...

    async def place(self, table: MovedTable, keys: Sequence[Key], bounds: Sequence[Key]) -> Sequence[int]:
        """For each key, how many of the bounds (in this side's order) lie before it."""
        ...


class Writing(Protocol):
    """One transaction on a side that rows are moved to; nobody else's writes are let in."""

    async def put(self, table: MovedTable, rows: Sequence[Row]) -> None:
        """Inserts or replaces. Raises InvalidInput naming a row that this database cannot hold."""
        ...

    async def park(self, table: MovedTable, keys: Sequence[Key]) -> None:
        """Takes from these rows what another row may be about to be given (unique values)."""
        ...

    async def remove(self, table: MovedTable, keys: Sequence[Key]) -> None: ...

    async def note(self, name: str, value: Any) -> None:
        """Keeps a JSON value by name with the promotion's state."""
        ...

    async def hand_over_jobs(self) -> int:
        """Lets any worker take the jobs that were running; how many."""
        ...


class Side(Protocol):
    """A database that rows are moved from or to."""

    name: str
    """How reports and errors call it; holds no secret."""

    async def revision(self) -> str | None:
        """The schema's; None where there is none."""
        ...

    async def install(self, *, closed: bool) -> None:
        """The state, the change log and its triggers; a second time nothing. `closed`: not to be written yet."""
        ...

    async def installed(self) -> bool: ...

    async def uninstall(self) -> None:
        """Takes away all that `install` made; the side is open then."""
        ...

    async def state(self) -> Mapping[str, Any]:
        """What was noted; empty where nothing is installed."""
        ...

    async def close_writes(self, lease_s: float) -> None:
        """Refuses the app's writes from now on, for so long; waits for those under way. Raises Unavailable."""
        ...

    async def keep_closed(self) -> bool:
        """Makes a lease last for good; False where it was over, and writes may have been let in."""
        ...

    async def open_writes(self) -> None: ...

    async def forget(self, changes: Sequence[Change]) -> None:
        """Takes these entries off the change log."""
        ...

    async def pending(self) -> int:
        """How many entries the change log has."""
        ...

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]: ...

    def writing(self) -> AbstractAsyncContextManager[Writing]:
        """Committed at the end of the block, rolled back on an exception."""
        ...

    async def end(self) -> None:
        """Closes the connections."""
        ...


Pages = AsyncIterator[Sequence[Row]]
