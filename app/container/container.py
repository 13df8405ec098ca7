"""An open process: its backends, and what is asked of all of them."""

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from app.agent.tools import Approvals, ToolPolicies
from app.agent.tools.approvals import Resume
from app.clock import Clock
from app.container.grace import Grace
from app.errors import NotFound
from app.governance.audit import Audit
from app.governance.decisions import DecisionRepository
from app.governance.flags import Flags
from app.governance.keys import KeyRing
from app.governance.models import Decision
from app.governance.people import erased
from app.governance.user_tokens import UserTokens
from app.http.health import Readiness
from app.http.rates import RateLimits
from app.knowledge.jobs import IngestJobs
from app.knowledge.reindex import Reindexing
from app.pack import Kit, PackRuntime, ReplayReport
from app.people import People
from app.principal import Principal
from app.settings import Settings
from app.storage.db import Database
from app.telemetry.metrics import Metrics
from app.telemetry.setup import Telemetry


class Parts(Enum):
    """What a process opens: the embedded index and the worker have one owner a data folder."""

    SERVER = "server"
    WORKER = "worker"
    COMMAND = "command"


@dataclass(slots=True)
class Container:
    """Every backend of one process, open. Made by `open_container` only."""

    settings: Settings
    db: Database
    clock: Clock
    metrics: Metrics
    audit: Audit
    flags: Flags
    keys: KeyRing
    users: UserTokens
    rates: RateLimits
    readiness: Readiness
    grace: Grace
    telemetry: Telemetry
    open_as: Principal | None
    approvals: Approvals
    tool_policies: ToolPolicies
    documents: IngestJobs
    reindexing: Reindexing
    model: str
    kit: Kit
    people: People
    runtimes: Mapping[str, PackRuntime] = field(default_factory=dict)

    @property
    def resumers(self) -> Mapping[str, Resume]:
        """By pack: what takes up a decision after an approval."""
        return {name: runtime.resume for name, runtime in self.runtimes.items() if runtime.resume is not None}

    async def decision(self, principal: Principal, decision_id: str) -> Decision:
        """Raises NotFound."""
        async with self.db.reading(principal.tenant_id) as session:
            return await DecisionRepository(session, principal.tenant_id).get(decision_id)

    async def replay(self, principal: Principal, decision_id: str) -> ReplayReport:
        """The replay of the decision's own pack. Raises NotFound where the pack has none, or nothing is left of it."""
        decision = await self.decision(principal, decision_id)
        if erased(decision):
            raise NotFound(f"The person of the decision '{decision_id}' was erased: nothing is left to replay.")
        runtime = self.runtimes.get(decision.pack)
        if runtime is None or runtime.replay is None:
            raise NotFound(f"The pack '{decision.pack}' cannot replay decisions.")
        return await runtime.replay(principal, decision_id)

    async def stopped(self) -> None:
        """Returns when the process is asked to end."""
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, asked.set)
        await asked.wait()
