"""Every board: a module with its uid, how it is built, and which phases have something to show on it."""

from typing import Final, Protocol

from dashboards.src import (
    agent,
    api,
    business,
    jobs,
    kubernetes,
    machine,
    model,
    postgres,
    regions,
    release,
    slo,
    stores,
    telemetry,
    vllm,
)
from dashboards.src.house import Dashboard
from infra.phases import Phase


class Board(Protocol):
    """A module of this folder that makes one dashboard."""

    @property
    def UID(self) -> str: ...  # noqa: N802 - the module's constant

    def build(self) -> Dashboard: ...

    def used(self, phase: Phase) -> bool: ...


BOARDS: Final[tuple[Board, ...]] = (
    slo,
    api,
    model,
    agent,
    jobs,
    vllm,
    postgres,
    stores,
    kubernetes,
    machine,
    telemetry,
    regions,
    release,
    business,
)


def used(phase: Phase) -> tuple[str, ...]:
    """The uids of the boards that a phase is given."""
    return tuple(board.UID for board in BOARDS if board.used(phase))
