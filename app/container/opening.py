"""The order in which everything is opened."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

from app.agent.breaker import Breakers
from app.agent.loop import Agent
from app.agent.prompt_scope import Place
from app.agent.prompts import PromptLibrary
from app.agent.routing import ModelRouter
from app.agent.tools import ToolExecutor, ToolPolicies
from app.agent.tools.records import WritesOfPerson
from app.clock import Clock, system_clock
from app.container.container import Container, Parts
from app.container.grace import WORK_SHARE, Grace
from app.container.ground import Ground, lay_ground
from app.container.knowledge import Knowledge, open_knowledge
from app.container.models import open_router
from app.container.parts import readiness
from app.container.talks import open_memory
from app.container.tools import open_tools
from app.container.upkeep import PURGE_SCHEDULE, keep_gauges, purging
from app.conversation.assistant import Assistant
from app.conversation.build import PROMPTS as CONVERSATION_PROMPTS
from app.conversation.build import Parts as ConversationParts
from app.conversation.build import build_assistant
from app.conversation.people import AnswersOfPerson, MemoryOfPerson, TastesOfPerson
from app.conversation.record import subject_of
from app.errors import TrellisError
from app.governance.experiments import Experiments
from app.governance.keys import KeyRing
from app.governance.people import DecisionsOfPerson
from app.governance.policies import Policies
from app.governance.privacy import scrub
from app.governance.user_tokens import UserTokens
from app.http.people import AnswersOnceOfPerson
from app.http.rates import RateLimits
from app.http.streaming import Streams, StreamTimes
from app.integrations.person import LocalIntegrationsOfPerson
from app.jobs.engine import Jobs
from app.knowledge.jobs import IngestJobs
from app.knowledge.reindex import Reindexing
from app.memory import ConversationMemory, MemoryFile
from app.messages.base import Messenger
from app.messages.local import LocalMessenger
from app.pack import Kit, Pack, PackRuntime, Ports
from app.packs.chat.pack import CHAT
from app.packs.claims.pack import CLAIMS
from app.packs.leads.pack import LEADS
from app.packs.teams.pack import TEAMS
from app.packs.treatments.pack import TREATMENTS
from app.people import JobsOfPerson, People
from app.principal import Principal, Role, Tier
from app.settings import Settings
from app.telemetry.errors import Reporter
from app.telemetry.logs import configure_logs
from app.telemetry.loop import watch_loop
from app.telemetry.metrics import Metrics
from app.telemetry.setup import build_metrics, log_counter, open_telemetry
from app.web.signing import signing_key

PACKS: tuple[Pack, ...] = (LEADS, CHAT, CLAIMS, TREATMENTS, TEAMS)
LOCAL_TENANT = "local"
_SERVICES: Final = {Parts.SERVER: "trellis-api", Parts.WORKER: "trellis-worker", Parts.COMMAND: "trellis-command"}


@asynccontextmanager
async def open_container(
    settings: Settings, parts: Parts = Parts.SERVER, *, clock: Clock = system_clock
) -> AsyncIterator[Container]:
    """Opens every backend in order and closes them in the opposite one, also where a later one does not open.

    Raises ConfigError for whatever a person has to mend: settings, folders, an old schema, a second worker.
    """
    # A command prints what it did; its logs are for what went wrong.
    quiet = parts is Parts.COMMAND and settings.log_level == "INFO"
    metrics = build_metrics(version("trellis"), settings.phase)
    telemetry = open_telemetry(settings, _SERVICES[parts], version("trellis"), scrub, metrics)
    configure_logs(
        as_json=settings.log_json,
        level="WARNING" if quiet else settings.log_level,
        scrub=scrub,
        counted=log_counter(metrics),
        reported=telemetry.reporter.report,
    )
    async with AsyncExitStack() as stack:
        with _told(telemetry.reporter):
            ground = await lay_ground(settings, parts, clock, stack, PACKS, metrics, telemetry)
            yield await _build(ground)


@contextmanager
def _told(reporter: Reporter) -> Iterator[None]:
    """Of what ends the process; a TrellisError is a sentence for who started it."""
    try:
        yield
    except TrellisError:
        raise
    except Exception as error:
        reporter.report(error, "process")
        raise


async def _build(ground: Ground) -> Container:
    settings, db, clock, metrics, audit = ground.settings, ground.db, ground.clock, ground.metrics, ground.audit
    ports, knowledge = await open_knowledge(ground)
    kit, model = await _kit(ground, ports, knowledge)
    runtimes = {pack.name: pack.build(kit) for pack in PACKS}
    kit.executor.registry.add(tool for runtime in runtimes.values() for tool in runtime.tools)
    _show(metrics, kit.executor.registry.names)
    people = _people(ground, kit, runtimes)
    await _start_jobs(ground, kit, knowledge, runtimes)
    rates = RateLimits(metrics, redis=ground.redis)
    keys = KeyRing(db, clock)
    return Container(
        settings=settings,
        db=db,
        clock=clock,
        metrics=metrics,
        audit=audit,
        flags=ground.flags,
        keys=keys,
        users=UserTokens(signing_key(settings), keys, clock),
        rates=rates,
        readiness=readiness(ground, knowledge, kit.jobs),
        grace=ground.grace,
        telemetry=ground.telemetry,
        open_as=None if settings.auth else Principal(LOCAL_TENANT, "anonymous", Role.ADMIN, Tier.PRO),
        approvals=kit.executor.approvals,
        tool_policies=kit.executor.policies,
        documents=kit.documents,
        reindexing=Reindexing(kit.generations, kit.jobs, audit, clock),
        model=model,
        kit=kit,
        people=people,
        runtimes=runtimes,
    )


def _show(metrics: Metrics, tools: Iterable[str]) -> None:
    """Puts what is known beforehand at 0, before anything was counted: the first one is then an increase."""
    for tool in tools:
        for outcome in ("failed", "parked"):
            metrics.tool_calls.labels(tool, outcome)
    for pack in PACKS:
        metrics.run_cost_usd.labels(pack.name)
        for verdict in ("right", "wrong"):
            metrics.decision_reviews.labels(pack.name, verdict)


async def _kit(ground: Ground, ports: Ports, knowledge: Knowledge) -> tuple[Kit, str]:
    """What packs are built from, and how the first model is called."""
    settings, db, clock, metrics, audit = ground.settings, ground.db, ground.clock, ground.metrics, ground.audit
    breakers = Breakers(metrics)
    registry, plugins = await open_tools(ground, ports, PACKS)
    policies = ToolPolicies(db, clock, audit)
    executor = ToolExecutor(db, clock, registry, policies, breakers, audit, metrics=metrics)
    router, model = await open_router(ground, breakers, PACKS)
    jobs = _jobs(ground)
    prompts = _prompts(settings)
    agent = Agent(router, executor, metrics)
    memory = await open_memory(ground)
    kit = Kit(
        settings=settings,
        ports=ports,
        metrics=metrics,
        audit=audit,
        flags=ground.flags,
        experiments=Experiments(clock, ground.flags, audit),
        policies=Policies(clock, audit),
        prompts=prompts,
        agent=agent,
        executor=executor,
        ingestor=knowledge.ingestor,
        documents=IngestJobs(
            db, knowledge.ingestor, knowledge.repairs, jobs, audit, clock, concurrency=settings.worker_concurrency
        ),
        generations=knowledge.building.generations,
        jobs=jobs,
        caches=ground.caches,
        memory=memory,
        assistant=_assistant(ground, ports, knowledge, prompts, router, agent, memory),
        streams=_streams(ground),
        messenger=_messenger(settings, metrics),
        plugins=plugins,
    )
    return kit, model


def _messenger(settings: Settings, metrics: Metrics) -> Messenger:
    if settings.kafka_url is None:
        return LocalMessenger(metrics)
    # Its library is 60 MB that nobody else needs.
    from app.messages.kafka import KafkaMessenger, connection

    return KafkaMessenger(
        connection(settings), metrics=metrics, prefix=settings.kafka_prefix, partitions=settings.kafka_partitions
    )


def _jobs(ground: Ground) -> Jobs:
    settings = ground.settings
    works = settings.direct_database_url if ground.works else settings.sqlalchemy_url
    return Jobs(
        works,
        metrics=ground.metrics,
        reporter=ground.telemetry.reporter,
        executor_id=settings.worker_id,
        clock=ground.clock,
        pool_size=settings.pool_size,
    )


def prompt_directories() -> list[Path]:
    """Where the program's own prompts are: a conversation's, and each pack's."""
    return [CONVERSATION_PROMPTS, *(pack.prompts for pack in PACKS if pack.prompts is not None)]


def _prompts(settings: Settings) -> PromptLibrary:
    return PromptLibrary.load(prompt_directories(), place=Place(settings.environment, settings.region))


def _streams(ground: Ground) -> Streams:
    streams = Streams(StreamTimes(ground.settings.stream_kept_s, ground.settings.stream_grace_s))
    ground.stack.push_async_callback(streams.close)
    return streams


def _assistant(
    ground: Ground,
    ports: Ports,
    knowledge: Knowledge,
    prompts: PromptLibrary,
    router: ModelRouter,
    agent: Agent,
    memory: ConversationMemory,
) -> Assistant:
    parts = ConversationParts(
        db=ground.db,
        clock=ground.clock,
        metrics=ground.metrics,
        audit=ground.audit,
        flags=ground.flags,
        prompts=prompts,
        router=router,
        agent=agent,
        memory=memory,
        caches=ground.caches,
        store=knowledge.store,
        embedder=knowledge.of_questions,
        versions=knowledge.versions,
        retriever=ports.retriever,
    )
    assistant = build_assistant(parts)
    ground.stack.push_async_callback(assistant.close)
    return assistant


def _people(ground: Ground, kit: Kit, runtimes: Mapping[str, PackRuntime]) -> People:
    stores = (
        *(store for runtime in runtimes.values() for store in runtime.people),
        LocalIntegrationsOfPerson(),
        DecisionsOfPerson(subject_of),
        WritesOfPerson(signing_key(ground.settings)),
        AnswersOnceOfPerson(),
    )
    traces = (
        MemoryOfPerson(kit.memory, MemoryFile(ground.settings.home, ground.clock)),
        TastesOfPerson(kit.ports.retriever),
        AnswersOfPerson(ground.db, kit.caches, kit.assistant, kit.streams),
        JobsOfPerson(kit.jobs),
    )
    secret, again_s = signing_key(ground.settings), ground.settings.erase_again_s
    people = People(ground.db, kit.jobs, kit.audit, ground.clock, secret, stores, traces, again_s=again_s)
    jobs, schedules = people.declared()
    kit.jobs.register(jobs, (), schedules)
    return people


async def _start_jobs(ground: Ground, kit: Kit, knowledge: Knowledge, runtimes: Mapping[str, PackRuntime]) -> None:
    """Declares every job; begins to run them where this process is a worker."""
    jobs = kit.jobs
    jobs.register(knowledge.building.jobs, knowledge.building.queues)
    jobs.register(*kit.documents.declared())
    jobs.register([purging(ground.db, ground.clock)], (), [PURGE_SCHEDULE])
    for runtime in runtimes.values():
        jobs.register(runtime.jobs, runtime.queues, runtime.schedules)
    works = ground.works
    # A command asks no agent by itself: jobs do.
    if ground.parts is not Parts.COMMAND:
        await kit.messenger.start(serve=works)
        ground.stack.push_async_callback(kit.messenger.close)
    await jobs.start(worker=works)
    ground.stack.push_async_callback(_end_jobs, jobs, ground.grace)
    if works:
        await kit.documents.sweep()
    if ground.parts is not Parts.COMMAND:
        lag = ground.metrics.event_loop_lag_seconds
        for name, work in (("gauges", keep_gauges(ground)), ("loop lag", watch_loop(lag))):
            ground.stack.callback(asyncio.create_task(work, name=name).cancel)


async def _end_jobs(jobs: Jobs, grace: Grace) -> None:
    await jobs.stop(grace.left(WORK_SHARE))
