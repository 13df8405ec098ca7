"""Flags and kill switches: rows in our own store, an in-memory snapshot on the way of a request.

Every process refreshes its snapshot from the writer every half second, so a change is seen by all within a second of
its commit, however far replicas are behind. Reading a flag asks no database. Why not Redis:
docs/decisions/0031-redis-away.md.
"""

import asyncio
import builtins
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.errors import Conflict, Forbidden, InvalidInput, NotFound, TrellisError
from app.governance.audit import Audit
from app.governance.models import FlagRow
from app.principal import EVERY_TENANT, Principal, Role
from app.storage.db import Database
from app.telemetry.metrics import Metrics

FlagValue = bool | str | float

REFRESH_S = 0.5
_LARGEST = 1e300
KILL = "kill."
KILL_ALL = KILL + "all"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FlagSpec:
    """A flag that a pack declares; the type of `default` is the flag's type."""

    name: str
    default: FlagValue
    description: str


def kill_switch(pack: str) -> FlagSpec:
    """The flag that stops a pack, for one tenant or (set for `*`) for all."""
    return FlagSpec(KILL + pack, False, f"Stops every run of {pack}.")


MCP: Final = "mcp"
MCP_SWITCH: Final = FlagSpec(KILL + MCP, False, "Stops every write that another agent asks for by MCP.")


class UnknownFlag(TrellisError):
    """The program read a flag that nobody declared, or as another type than it was declared: a bug, not bad input."""

    code, title = "unknown-flag", "There is no such flag"


class Flags:
    """The declared flags and their values.

    A tenant's own value goes before the one for every tenant (`*`), that before the default. A kill switch
    differs: any of `kill.all` and `kill.<pack>`, for the tenant or for all, stops the pack; a tenant cannot
    switch back on what was stopped for everyone.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        *,
        audit: Audit | None = None,
        metrics: Metrics | None = None,
        refresh_s: float = REFRESH_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit or Audit(clock)
        self._metrics = metrics
        self._refresh_s = refresh_s
        self._sleep = sleep
        self._specs: dict[str, FlagSpec] = {}
        self._values: Mapping[tuple[str, str], FlagValue] = {}
        self._task: asyncio.Task[None] | None = None
        self.refreshed_at: datetime | None = None
        self.declare(FlagSpec(KILL_ALL, False, "Stops every run of every pack."))

    def declare(self, *specs: FlagSpec) -> None:
        """Adds flags; raises Conflict where a name is declared already with another default or description."""
        for spec in specs:
            if self._specs.setdefault(spec.name, spec) != spec:
                raise Conflict(f"The flag '{spec.name}' is declared twice: give one of the two another name.")

    @property
    def specs(self) -> Mapping[str, FlagSpec]:
        return self._specs

    async def start(self) -> None:
        """Loads the snapshot and keeps it fresh.

        Raises what the database raises: there is no start without knowing the switches.
        """
        await self.refresh()
        self._task = asyncio.create_task(self._keep_fresh(), name="flags")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def refresh(self) -> None:
        """Reads every value now."""
        async with self._db.operator_reading() as session:
            rows = (await session.execute(select(FlagRow.name, FlagRow.tenant, FlagRow.value))).all()
        self._values = {(row.name, row.tenant): row.value for row in rows}
        self.refreshed_at = self._clock()
        self._publish()

    def bool(self, name: str, tenant_id: str) -> bool:
        """Raises UnknownFlag for a name that nobody declared, or one that is of another type."""
        return bool(self._value(name, tenant_id, bool))

    def text(self, name: str, tenant_id: str) -> str:
        return str(self._value(name, tenant_id, str))

    def number(self, name: str, tenant_id: str) -> float:
        return float(self._value(name, tenant_id, float))

    def killed(self, pack: str, tenant_id: str) -> builtins.bool:
        """Whether a switch stops the pack for the tenant."""
        return self.bool(KILL_ALL, tenant_id) or self.bool(KILL + pack, tenant_id)

    def value(self, name: str, tenant_id: str) -> FlagValue:
        """The flag's value, whatever its type. Raises UnknownFlag."""
        spec = self._spec(name)
        own, every = self._values.get((name, tenant_id)), self._values.get((name, EVERY_TENANT))
        if own is None and every is None:
            return False if name.startswith(KILL) else spec.default
        # A row that was written as another type (by another version) counts for nothing.
        values = [value for value in (own, every) if value is not None and _of_type(value, spec.default)]
        if name.startswith(KILL):
            return any(values)
        return values[0] if values else spec.default

    async def set(
        self, session: AsyncSession, principal: Principal, name: str, value: FlagValue, tenant: str | None = None
    ) -> None:
        """Sets a flag for a tenant (the principal's own where none is given), audited, in the caller's transaction.

        Every tenant at once (`*`) and other tenants are the operator's, whose principal has the tenant `*`.
        Raises Forbidden, NotFound for an unknown flag, or InvalidInput for a value of another type.
        """
        principal.require(Role.ADMIN)
        tenant = tenant or principal.tenant_id
        if principal.tenant_id not in (tenant, EVERY_TENANT):
            raise Forbidden("A flag can be set for your own tenant only.")
        spec = self._specs.get(name)
        if spec is None:
            raise NotFound(f"There is no flag '{name[:120]}': known are {', '.join(sorted(self._specs))}.")
        if not _of_type(value, spec.default):
            raise InvalidInput(f"The flag '{name}' takes a value of type {_type_name(spec.default)}.")
        now, by = self._clock(), principal.actor
        await session.merge(FlagRow(name=name, tenant=tenant, value=value, updated_at=now, updated_by=by))
        await self._audit.record(session, principal, "flag.set", name, {"tenant": tenant, "value": value})

    def _value(self, name: str, tenant_id: str, wanted: type[FlagValue]) -> FlagValue:
        value = self.value(name, tenant_id)
        if not _of_type(value, wanted()):
            raise UnknownFlag(f"The flag '{name}' is of type {_type_name(value)}, not {_type_name(wanted())}.")
        return value

    def _spec(self, name: str) -> FlagSpec:
        if name not in self._specs:
            raise UnknownFlag(f"The flag '{name}' was never declared: add it to the pack's flags.")
        return self._specs[name]

    async def _keep_fresh(self) -> None:
        failing = False
        while True:
            await self._sleep(self._refresh_s)
            try:
                async with asyncio.timeout(10 * self._refresh_s):
                    await self.refresh()
                failing = False
            except Exception as error:
                # The last known values stand: an unreachable database must not flip a switch.
                if not failing:
                    log.warning("flags.refresh_failed", error=str(error), refreshed_at=self.refreshed_at)
                failing = True

    def _publish(self) -> None:
        if self._metrics is None:
            return
        for name in self._specs:
            if name.startswith(KILL):
                on = self._values.get((name, EVERY_TENANT)) is True
                self._metrics.kill_switch.labels(name=name.removeprefix(KILL)).set(on)


def parsed(text: str, spec: FlagSpec) -> FlagValue:
    """A person's text as the flag's type. Raises InvalidInput."""
    if isinstance(spec.default, bool):
        if text.lower() not in ("true", "false"):
            raise InvalidInput(f"The flag '{spec.name}' is either true or false, not '{text[:40]}'.")
        return text.lower() == "true"
    if isinstance(spec.default, str):
        return text
    try:
        return float(text)
    except ValueError:
        raise InvalidInput(f"The flag '{spec.name}' takes a number, not '{text[:40]}'.") from None


def _of_type(value: FlagValue, example: FlagValue) -> bool:
    if isinstance(example, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(example, bool)
    if isinstance(example, str):
        return isinstance(value, str)
    # Also false for NaN and the infinities, which JSON does not have.
    return isinstance(value, int | float) and -_LARGEST < value < _LARGEST


def _type_name(example: FlagValue) -> str:
    if isinstance(example, bool):
        return "boolean"
    return "text" if isinstance(example, str) else "number"
