"""What a rehearsal of a page is: a stage on which the system runs, how it is broken, and what of it was lost."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

PACE = 60.0
"""How many times faster than in production the windows of a stage's rules pass, where it does not say otherwise."""


class Stage(Protocol):
    """The running system of a rehearsal; entering it has it up, leaving it ends every process of it.

    Attributes:
        environment: variables that the page's blocks see: settings of the app (`TRELLIS_...`), PGHOST and the like for
            `psql`, and what the page writes in capitals (`TENANT`, `BOT`). The runner completes PATH.
        programs: commands that a page calls and that stand for others here, by their name: the runner puts them first
            on the PATH.
        prometheus: address of the Prometheus that has our rules; None where the rehearsal has none.
        pace: how many times faster its rules' windows pass; windows of a page's queries are divided by it.
    """

    @property
    def environment(self) -> Mapping[str, str]: ...

    @property
    def programs(self) -> Mapping[str, Sequence[str]]: ...

    @property
    def prometheus(self) -> str | None: ...

    @property
    def pace(self) -> float: ...

    async def break_it(self) -> None:
        """The fault, on purpose; returns when it is there."""

    async def mend(self) -> None:
        """Takes away the cause that the page only works around, before its Rollback is tried (`Rollback.AFTER`)."""

    async def lost(self) -> str:
        """What was lost, counted: `nothing of 240 leads`. Raises AssertionError where it is more than the page says."""


@dataclass(kw_only=True)
class Standing:
    """A stage without Prometheus, and with nothing to mend: for stages to start from."""

    environment: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    prometheus: str | None = None
    pace: float = PACE

    async def mend(self) -> None:
        """Nothing: the page's own commands take the cause away."""


class Rollback(Enum):
    """Whether a rehearsal runs the blocks of the page's Rollback.

    NO; FIX: as the last part of the fix, before the recovery is waited for; AFTER: after the recovery, when the stage's
    `mend` took the cause away, and the recovery must hold again.
    """

    NO = "no"
    FIX = "fix"
    AFTER = "after"


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """How one page is rehearsed.

    Attributes:
        page: folder and name, such as `procedures/flags`.
        alert: what must fire; None: the fault is detected when the page's first block under Verify answers as the page
            says, which it must not before.
        needs: names of `tests.support.components.COMPONENTS`; skipped where one is not installed.
        stage: gets an empty folder.
        ci: one of the rollbacks that CI rehearses.
        steps: numbers of those steps of Mitigate that fit this fault; None: all of them.
        rollback: whether the blocks under Rollback run too.
        wait_s: the longest that health, detection and recovery are each waited for.
    """

    page: str
    alert: str | None
    stage: Callable[[Path], AbstractAsyncContextManager[Stage]]
    needs: tuple[str, ...] = ()
    ci: bool = False
    steps: frozenset[int] | None = None
    rollback: Rollback = Rollback.NO
    wait_s: float = 300.0

    @property
    def name(self) -> str:
        """Of the page, without its folder."""
        return self.page.rpartition("/")[2]
