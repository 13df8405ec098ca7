"""What moves beside the rows (vectors, memory, a sample of answers) plugs in here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.promotion.side import Side
from app.settings import Settings

Progress = Callable[[str, int, int], None]
"""Told what is under way, how much of it is done, and of how much (0: not known)."""


@dataclass(frozen=True, slots=True)
class Context:
    """Both ends of a promotion. `back` in a rollback, where source and target have changed places."""

    source: Settings
    target: Settings
    source_side: Side
    target_side: Side
    progress: Progress
    back: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `passed`, and what was seen in one sentence or figure."""

    name: str
    passed: bool
    seen: str


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step did. `figures` are JSON values for the report, without secrets."""

    name: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


class Step(Protocol):
    """Every method may be called again after a kill, at any point, and then goes on or does the same once more.

    An exception of TrellisError in `run` or `settle` ends the promotion with its sentence, before the switch is done:
    the old side goes on taking writes.
    """

    name: str

    async def run(self, context: Context) -> StepReport:
        """Before the switch: the bulk, while the source is written and the target has the rows as of a moment ago."""
        ...

    async def settle(self, context: Context) -> StepReport:
        """Within the switch: no side takes writes and both have the same rows. Of the few seconds it gets a share."""
        ...

    async def verify(self, context: Context) -> StepReport:
        """After the switch: what is on the target now, as findings. One that did not pass is reported, loudly."""
        ...
