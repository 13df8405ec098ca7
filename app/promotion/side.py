"""What a promotion asks of a database, whichever it is, and in whichever direction rows move."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from app.errors import Conflict
from app.promotion.tables import MovedTable

T = TypeVar("T")

Key = tuple[Any, ...]
"""A row's primary key: texts and integers."""
Row = tuple[Any, ...]
"""Values in the order of the table's columns, as app.promotion.values describes them."""


FINISHED = "finished"
"""The note of a side that was retired."""


class Gate(StrEnum):
    """Whether the app may write on a side."""

    OPEN = "open"
    LEASED = "closed for a few seconds"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Changes:
    """What a change log holds: `entries` of them, about these rows, by table. What a row is now is looked up.

    Args:
        mark: for `Side.forget`, of the side that made it.
    """

    entries: int
    keys: Mapping[str, Sequence[Key]]
    mark: Any


def another(name: str) -> Conflict:
    """Of a side that another run has."""
    return Conflict(f"Another promotion from or to {name} is running: wait until it ends.")


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """So many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class Snapshot(Protocol):
    """One state of a side, as of one moment, whatever is written meanwhile."""

    async def changes(self) -> Changes: ...

    async def page(self, table: MovedTable, after: Key | None, limit: int) -> Sequence[Row]:
        """The rows that follow a key (None: the first ones), in this side's order of keys."""
        ...

    async def rows(self, table: MovedTable, keys: Sequence[Key]) -> Sequence[Row]:
        """Those of these rows that exist, in no order."""
        ...

    async def count(self, table: MovedTable) -> int: ...


class Writing(Protocol):
    """One transaction on a side that rows are moved to. The gate lets it in; the change log does not see it."""

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

    async def hand_over_jobs(self) -> None:
        """Lets any worker take the jobs that were running. This alone is seen by the change log."""
        ...


class Side(Protocol):
    """A database that rows are moved from or to. Its errors are TrellisErrors of one sentence."""

    name: str
    """How reports and errors call it; holds no secret."""

    async def revision(self) -> str | None:
        """The schema's; None where there is none."""
        ...

    async def install(self, *, closed: bool) -> None:
        """The state, the change log, its triggers and the gate; a second time nothing, whatever the gate is."""
        ...

    async def installed(self) -> bool: ...

    async def uninstall(self) -> None:
        """Takes away all that `install` made; the side is open then."""
        ...

    async def retire(self) -> None:
        """Takes away the change log; the gate stays closed."""
        ...

    async def state(self) -> Mapping[str, Any]:
        """What was noted; empty where nothing is installed."""
        ...

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Within the block no other run has this side (a killed one has none). Raises Conflict where one has it."""
        ...

    async def gate(self) -> Gate: ...

    async def close_writes(self, lease_s: float) -> None:
        """Refuses the app's writes from now on, for so long; waits for those under way.

        Raises Unavailable where one of them does not end; nothing is closed then.
        """
        ...

    async def keep_closed(self) -> bool:
        """Makes a lease last for good. False where it was over, so that writes may have come: the gate is open then."""
        ...

    async def open_writes(self) -> None: ...

    async def forget(self, changes: Changes) -> None:
        """Takes these entries off the change log, and none that came later."""
        ...

    async def pending(self) -> int:
        """How many entries the change log has."""
        ...

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]: ...

    def writing(self) -> AbstractAsyncContextManager[Writing]:
        """Committed at the end of the block, rolled back on an exception."""
        ...

    async def close(self) -> None:
        """Ends the connections."""
        ...
