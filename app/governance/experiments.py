"""A/B experiments on prompt versions and thresholds: definitions, and the arm that a unit falls into."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.errors import Conflict, InvalidInput
from app.governance.audit import Audit
from app.governance.flags import Flags, FlagSpec
from app.governance.models import ExperimentRow, ExperimentState
from app.ids import new_id
from app.principal import Principal, Role
from app.storage.repository import TenantRepository

ENABLED = "experiments.enabled"
_HASHES = 2**64


class Arm(BaseModel):
    """One arm: its share of the units is `weight` over the sum of the weights; None keeps what is active."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    weight: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
    prompt_version: Annotated[int, Field(ge=1)] | None = None
    policy_version: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """What assignment needs of an experiment. The first arm is the control that others are compared with."""

    name: str
    pack: str
    arms: tuple[Arm, ...]


def assign(definition: Definition, unit_id: str) -> Arm:
    """The unit's arm: always the same for the same name, arms and unit, on every machine.

    Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights after Schindelhauer and Schomaker 2005):
    each arm scores -weight / ln(u), u in (0, 1) being the SHA-256 of name, unit and arm; the highest wins.
    An arm's share is its weight's, and adding an arm or raising one's weight moves units to that arm only.
    """
    return max(definition.arms, key=lambda arm: _score(definition.name, unit_id, arm))


def _score(name: str, unit_id: str, arm: Arm) -> float:
    digest = hashlib.sha256(f"{name}:{unit_id}:{arm.arm}".encode()).digest()
    uniform = (int.from_bytes(digest[:8], "big") + 0.5) / _HASHES
    # Rounding may give 1.0 for the topmost hashes, whose logarithm is 0.
    return -arm.weight / math.log(min(uniform, 1 - 2**-53))


class ExperimentRepository(TenantRepository[ExperimentRow]):
    model = ExperimentRow
    noun = "experiment"

    async def running(self, pack: str) -> ExperimentRow | None:
        """The pack's running experiment: at most one, so that no effect is mixed with another's."""
        return await self.first(ExperimentRow.pack == pack, ExperimentRow.state == ExperimentState.RUNNING)


class Experiments:
    """Creates, starts and stops experiments (admins only, audited), and says which one runs.

    The flag `experiments.enabled` set to false gives every unit what is active, without stopping anything.
    """

    def __init__(self, clock: Clock, flags: Flags, audit: Audit) -> None:
        self._clock = clock
        self._flags = flags
        self._audit = audit
        flags.declare(FlagSpec(ENABLED, True, "Whether running experiments assign arms."))

    async def active(self, session: AsyncSession, tenant_id: str, pack: str) -> Definition | None:
        """The pack's running experiment, or None."""
        if not self._flags.bool(ENABLED, tenant_id):
            return None
        row = await ExperimentRepository(session, tenant_id).running(pack)
        return definition(row) if row else None

    async def create(
        self, session: AsyncSession, principal: Principal, name: str, pack: str, arms: Sequence[Arm]
    ) -> ExperimentRow:
        """Adds a draft; the first arm is the control.

        Raises Forbidden, InvalidInput, or Conflict for a name that is taken.
        """
        principal.require(Role.ADMIN)
        _check(name, arms)
        row = ExperimentRow(
            id=new_id("experiment"),
            tenant_id=principal.tenant_id,
            created_at=self._clock(),
            name=name,
            pack=pack,
            state=ExperimentState.DRAFT,
            arms=[arm.model_dump() for arm in arms],
        )
        try:
            async with session.begin_nested():
                session.add(row)
        except IntegrityError as error:
            raise Conflict(f"There is an experiment '{name}' already: give this one another name.") from error
        await self._record(session, principal, "experiment.created", row)
        return row

    async def start(self, session: AsyncSession, principal: Principal, experiment_id: str) -> ExperimentRow:
        """Runs a draft. Raises Forbidden, NotFound, or Conflict where it ran before or another of the pack runs."""
        principal.require(Role.ADMIN)
        row = await ExperimentRepository(session, principal.tenant_id).get(experiment_id)
        if row.state != ExperimentState.DRAFT:
            raise Conflict(f"The experiment '{row.name}' is {row.state}: only a draft can be started.")
        pack = row.pack  # a failed flush expires the row
        try:
            async with session.begin_nested():
                row.state, row.started_at = ExperimentState.RUNNING, self._clock()
        except IntegrityError as error:
            raise Conflict(f"Another experiment of '{pack}' is running: stop it first.") from error
        await self._record(session, principal, "experiment.started", row)
        return row

    async def stop(self, session: AsyncSession, principal: Principal, experiment_id: str) -> ExperimentRow:
        """Ends a draft or a running experiment for good; stopping twice changes nothing. Raises Forbidden, NotFound."""
        principal.require(Role.ADMIN)
        row = await ExperimentRepository(session, principal.tenant_id).get(experiment_id)
        if row.state != ExperimentState.STOPPED:
            row.state, row.stopped_at = ExperimentState.STOPPED, self._clock()
            await self._record(session, principal, "experiment.stopped", row)
        return row

    async def _record(self, session: AsyncSession, principal: Principal, action: str, row: ExperimentRow) -> None:
        await self._audit.record(session, principal, action, row.id, {"name": row.name, "pack": row.pack})


def definition(row: ExperimentRow) -> Definition:
    return Definition(row.name, row.pack, tuple(Arm.model_validate(arm) for arm in row.arms))


def _check(name: str, arms: Sequence[Arm]) -> None:
    if not 1 <= len(name) <= 80:
        raise InvalidInput("An experiment's name has 1 to 80 characters.")
    if len(arms) < 2 or len({arm.arm for arm in arms}) != len(arms):
        raise InvalidInput("An experiment needs at least two arms, each with a name of its own.")
    if sum(arm.weight > 0 for arm in arms) < 2:
        raise InvalidInput("At least two arms of an experiment need a weight above zero.")
