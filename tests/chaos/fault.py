"""A fault, what is promised of it as data, what was seen, and where the two differ."""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Promise:
    """What a fault may cost at most; None: nothing is promised of that.

    Attributes:
        text: for a person.
        failed: requests that were answered by an error, or not at all.
        lost: acknowledged and not there afterwards. doubled: there more than once.
        recovery_s: from the fault's end (or, where nobody ends it, its beginning) to the first request that is
            answered as before.
        figures: the most that each figure of `Seen.figures` may be, by its name.
    """

    text: str
    failed: int | None = None
    lost: int | None = 0
    doubled: int | None = 0
    recovery_s: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Seen:
    """What one run of a fault came to. `figures`: further numbers, their units in their names. `kinds`: how often each
    status and problem code was the answer to a request that failed."""

    tried: int = 0
    failed: int = 0
    lost: int = 0
    doubled: int = 0
    recovery_s: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)


def broken(promise: Promise, seen: Seen) -> list[str]:
    """One phrase for each part of the promise that was not kept. A figure that was not measured is not kept either."""
    counts = {name: (getattr(promise, name), getattr(seen, name)) for name in ("failed", "lost", "doubled")}
    found = [
        f"{name} {count}, promised {most}"
        for name, (most, count) in counts.items()
        if most is not None and count > most
    ]
    if promise.recovery_s is not None and (seen.recovery_s is None or seen.recovery_s > promise.recovery_s):
        took = "no recovery" if seen.recovery_s is None else f"recovery {seen.recovery_s:.1f} s"
        found.append(f"{took}, promised {promise.recovery_s:g} s")
    for name, most in promise.figures.items():
        value = seen.figures.get(name)
        if value is None or not value <= most:
            found.append(f"{name} {'not measured' if value is None else f'{value:.4g}'}, promised {most:g}")
    if not seen.tried:
        found.append("nothing was tried")
    return found


class CannotBeMade(Exception):
    """This machine does not allow the fault; the text says what it would need."""


@dataclass
class Stage:
    """What a fault is run on.

    Attributes:
        folder: its own, empty.
        seeds: how many runs, for faults that are made many times.
        stack: ends what is put on it when the fault is over, also where it is interrupted.
        tell: one line on how far it is.
    """

    folder: Path
    seeds: int
    stack: AsyncExitStack
    tell: Callable[[str], None]


class Fault(Protocol):
    """One fault. `needs`: components of `tests.support.components` without which it cannot be made."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    @property
    def promise(self) -> Promise: ...

    async def run(self, stage: Stage) -> Seen: ...
