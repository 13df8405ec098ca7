"""What a pack is given, and what it gives: the seam between the house and its agents."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import typer
from fastapi import APIRouter
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.loop import Agent
from app.agent.offline import OfflineRule
from app.agent.prompts import PromptLibrary
from app.agent.tools import Tool, ToolExecutor
from app.cache.caches import Caches
from app.clock import Clock
from app.conversation.assistant import Assistant
from app.governance.audit import Audit
from app.governance.experiments import Experiments
from app.governance.flags import Flags, FlagSpec
from app.governance.people import PersonStore
from app.governance.policies import Policies
from app.http.shortcut import Shortcut
from app.http.streaming import Streams
from app.integrations.base import AccountContext, Calendar, CodeHost, Crm, Mailer
from app.jobs.engine import Jobs
from app.jobs.port import Job, QueueSpec, Schedule
from app.knowledge.generations import Generations
from app.knowledge.ingest import Ingestor
from app.knowledge.jobs import IngestJobs
from app.knowledge.retrieve import Retriever
from app.memory import ConversationMemory
from app.messages.base import Messenger
from app.principal import Principal
from app.settings import Settings
from app.storage.db import Database
from app.telemetry.metrics import Metrics
from app.web.pack_pages import PackPages

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Ports:
    """What tools are built from: the backends that the settings chose."""

    db: Database
    clock: Clock
    crm: Crm
    calendar: Calendar
    mailer: Mailer
    retriever: Retriever
    code: CodeHost
    accounts: AccountContext


@dataclass(frozen=True, slots=True)
class Kit:
    """Everything that a pack may use. Built once, in `app.container`.

    `plugins` names the tools that come from outside (`app.plugins`, `app.mounts`): a bot may offer those
    that its tenant allows.
    """

    settings: Settings
    ports: Ports
    metrics: Metrics
    audit: Audit
    flags: Flags
    experiments: Experiments
    policies: Policies
    prompts: PromptLibrary
    agent: Agent
    executor: ToolExecutor
    ingestor: Ingestor
    documents: IngestJobs
    generations: Generations
    jobs: Jobs
    caches: Caches
    memory: ConversationMemory
    assistant: Assistant
    streams: Streams
    messenger: Messenger
    plugins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """A decision made again from what it saw. `differences` is empty where it came out the same."""

    decision_id: str
    same: bool
    differences: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class PackRuntime:
    """A pack at work.

    `resume` takes up a decision of this pack whose write was approved or rejected, inside the transaction that
    records the approval. `load_sample` loads what ships with the pack for a tenant, once however often it is
    called, and returns how many things are new. `batch_paths` take bodies up to `max_batch_body_bytes`, `upload_paths`
    files up to `max_upload_bytes`.
    `people` are what the pack's rows hold of a person, to give out and to erase. `shortcuts` answer some requests
    before they come to the router. `tools` are those that need the kit; they join the registry with `Pack.tools`.
    """

    router: APIRouter
    batch_paths: tuple[str, ...] = ()
    upload_paths: tuple[str, ...] = ()
    pages: PackPages | None = None
    jobs: tuple[Job, ...] = ()
    queues: tuple[QueueSpec, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    replay: Callable[[Principal, str], Awaitable[ReplayReport]] | None = None
    resume: Callable[[AsyncSession, Principal, str], Awaitable[None]] | None = None
    load_sample: Callable[[Principal], Awaitable[int]] | None = None
    people: tuple[PersonStore, ...] = ()
    shortcuts: tuple[Shortcut, ...] = ()
    tools: tuple[Tool, ...] = ()


class CommandRunner(Protocol):
    """Runs a command's work on an opened kit, as the operator of this machine in the tenant that was asked for."""

    def __call__(self, work: Callable[[Kit, Principal], Awaitable[Result]], tenant: str) -> Result: ...


@dataclass(frozen=True, slots=True)
class Pack:
    """One agent system: a folder under `app/packs`, named in `app.container.PACKS`.

    `tools` are built before the kit, for the kit's executor holds them. `commands` gives the pack's part of the
    command line, `learn` adds the pack's `learn` to the top of it. `evaluate(data, console)` prints what the pack
    is worth on the data sets in a folder.
    """

    name: str
    title: str
    build: Callable[[Kit], PackRuntime]
    tools: Callable[[Ports], tuple[Tool, ...]] = lambda _ports: ()
    prompts: Path | None = None
    flags: tuple[FlagSpec, ...] = ()
    offline: Callable[[], Mapping[str, OfflineRule]] = dict
    commands: Callable[[CommandRunner], typer.Typer] | None = None
    learn: Callable[[typer.Typer, CommandRunner], None] | None = None
    evaluate: Callable[[Path, Console], Coroutine[Any, Any, None]] | None = None
