"""Builds and closes every backend: the one place that knows embedded from production."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from openfeature import api as openfeature
from sqlalchemy import text

from app.agent.breaker import Breakers
from app.agent.budget_store import DailyCaps
from app.agent.budgets import Budgets
from app.agent.loop import Agent
from app.agent.prompt_scope import Place
from app.agent.prompts import PromptLibrary
from app.agent.providers import CHEAP, Endpoint, build_routes, load_prices
from app.agent.routing import ModelRouter
from app.agent.tools import Approvals, ToolExecutor, ToolPolicies, ToolRegistry
from app.agent.tools.approvals import Resume
from app.agent.tools.records import WritesOfPerson, count_waiting
from app.cache.caches import SWITCHES, Caches
from app.cache.connection import RedisLink, connect
from app.cache.lru import LruCache
from app.cache.redis import RedisCache
from app.clock import Clock, system_clock
from app.conversation.assistant import Assistant
from app.conversation.build import PROMPTS as CONVERSATION_PROMPTS
from app.conversation.build import Parts as ConversationParts
from app.conversation.build import build_assistant
from app.conversation.offline import offline_rules
from app.conversation.people import AnswersOfPerson, MemoryOfPerson, TastesOfPerson
from app.conversation.record import subject_of
from app.errors import NotFound
from app.governance.audit import Audit
from app.governance.decisions import DecisionRepository
from app.governance.experiments import Experiments
from app.governance.flags import Flags, FlagSpec, kill_switch
from app.governance.keys import KeyRing
from app.governance.models import EVERY_TENANT, Decision
from app.governance.openfeature import FlagProvider
from app.governance.people import DecisionsOfPerson, erased
from app.governance.policies import Policies
from app.governance.privacy import scrub
from app.governance.user_tokens import UserTokens
from app.http.health import Check, Readiness
from app.http.idempotency import purge_expired
from app.http.people import AnswersOnceOfPerson
from app.http.rates import RateLimits
from app.http.streaming import Streams, StreamTimes
from app.integrations import registry as integrations
from app.integrations.hours import BusinessHours
from app.integrations.person import LocalIntegrationsOfPerson
from app.jobs.engine import MAINTENANCE_QUEUE, Jobs
from app.jobs.port import Job, JobContext, Schedule
from app.knowledge.base import Embedder, VectorStore
from app.knowledge.boosts import CachedHistory
from app.knowledge.building import Building
from app.knowledge.edge import EdgeVectors
from app.knowledge.embedders import CachedEmbedder, OpenAiEmbedder, WordLlamaEmbedder
from app.knowledge.generations import Generations
from app.knowledge.ingest import Ingestor
from app.knowledge.jobs import IngestJobs
from app.knowledge.language import Glossary, LanguageGuess
from app.knowledge.parsing.parser import Parser
from app.knowledge.registry import Embedders, LateWordLlama, wordllama_family
from app.knowledge.reindex import Reindexing
from app.knowledge.repair import Repairs
from app.knowledge.repository import count_by_status
from app.knowledge.retrieve import FLAGS as RETRIEVAL_FLAGS
from app.knowledge.retrieve import Retriever
from app.knowledge.versions import IndexVersions
from app.memory import ConversationMemory, LocalMemory, RedisMemory
from app.pack import Kit, Pack, PackRuntime, Ports, ReplayReport
from app.packs.chat.pack import CHAT
from app.packs.claims.pack import CLAIMS
from app.packs.leads.pack import LEADS
from app.people import JobsOfPerson, People
from app.plugins import plugin_tools
from app.principal import Principal, Role, Tier
from app.settings import Settings
from app.storage import schema
from app.storage.base import micros
from app.storage.db import Database
from app.telemetry.logs import configure_logs
from app.telemetry.metrics import Metrics
from app.telemetry.setup import build_metrics
from app.web.signing import signing_key

log = structlog.get_logger(__name__)

PACKS: tuple[Pack, ...] = (LEADS, CHAT, CLAIMS)
LOCAL_TENANT = "local"
GAUGES_S = 15.0
PURGE_BATCH = 5_000
PURGE_KEYS = "http.purge_idempotency_keys"
PURGE_SCHEDULE = Schedule(PURGE_KEYS, "23 * * * *", PURGE_KEYS)


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
        async with self.db.reading() as session:
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


@asynccontextmanager
async def open_container(
    settings: Settings, parts: Parts = Parts.SERVER, *, clock: Clock = system_clock
) -> AsyncIterator[Container]:
    """Opens every backend in order and closes them in the opposite one, also where a later one does not open.

    Raises ConfigError for whatever a person has to mend: settings, folders, an old schema, a second worker.
    """
    configure_logs(as_json=settings.log_json, level=settings.log_level, scrub=scrub)
    async with AsyncExitStack() as stack:
        db = Database(
            settings.sqlalchemy_url, reader_url=settings.database_reader_url, pool_size=settings.database_pool_size
        )
        stack.push_async_callback(db.close)
        await schema.check(db)
        container = await _Builder(settings, parts, clock, db, stack).build()
        yield container


async def migrate_database(settings: Settings) -> str:
    """Brings both schemas up, ours and the job engine's. Returns the revision. Raises ConfigError."""
    db = Database(settings.sqlalchemy_url)
    try:
        await schema.upgrade(db.writer)
    finally:
        await db.close()
    jobs = Jobs(settings.sqlalchemy_url, metrics=build_metrics(version("trellis"), settings.phase))
    await jobs.migrate()
    return schema.head_revision()


@dataclass(frozen=True, slots=True)
class _Knowledge:
    """The knowledge room, open. `of_questions` embeds for the answers by meaning, whatever the settings' embedder."""

    store: VectorStore
    of_questions: Embedder
    versions: IndexVersions
    likings: CachedHistory
    ingestor: Ingestor
    repairs: Repairs
    building: Building


@dataclass(slots=True)
class _Builder:
    """The order of construction, in small steps."""

    settings: Settings
    parts: Parts
    clock: Clock
    db: Database
    stack: AsyncExitStack

    async def build(self) -> Container:
        settings, db, clock = self.settings, self.db, self.clock
        metrics = build_metrics(version("trellis"), settings.phase)
        audit = Audit(clock, metrics)
        flags = await self._flags(audit, metrics)
        redis = self._redis()
        caches = self._caches(metrics, flags, redis)
        session = await self.stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        ports, knowledge = await self._ports(session, metrics, flags, caches, redis)
        tool_policies = ToolPolicies(db, clock, audit)
        breakers = Breakers(metrics)
        own = [tool for pack in PACKS for tool in pack.tools(ports)]
        plugins = plugin_tools(ports, [tool.name for tool in own])
        registry = ToolRegistry([*own, *plugins])
        executor = ToolExecutor(db, clock, registry, tool_policies, breakers, audit, metrics=metrics)
        router, model = await self._router(session, breakers, metrics, caches)
        jobs = Jobs(
            settings.sqlalchemy_url,
            metrics=metrics,
            executor_id=settings.executor_id,
            clock=clock,
            pool_size=settings.database_pool_size,
        )
        prompts = PromptLibrary.load(
            [CONVERSATION_PROMPTS, *(pack.prompts for pack in PACKS if pack.prompts is not None)],
            place=Place(settings.environment, settings.region),
        )
        agent = Agent(router, executor, metrics)
        memory = RedisMemory(redis, clock) if redis else LocalMemory(clock)
        assistant = self._assistant(ports, knowledge, prompts, router, agent, memory, caches, flags, audit, metrics)
        documents = IngestJobs(
            db, knowledge.ingestor, knowledge.repairs, jobs, audit, clock, concurrency=settings.worker_concurrency
        )
        kit = Kit(
            settings=settings,
            ports=ports,
            metrics=metrics,
            audit=audit,
            flags=flags,
            experiments=Experiments(clock, flags, audit),
            policies=Policies(clock, audit),
            prompts=prompts,
            agent=agent,
            executor=executor,
            ingestor=knowledge.ingestor,
            documents=documents,
            generations=knowledge.building.generations,
            jobs=jobs,
            caches=caches,
            memory=memory,
            assistant=assistant,
            streams=self._streams(),
            plugins=tuple(tool.name for tool in plugins),
        )
        runtimes = {pack.name: pack.build(kit) for pack in PACKS}
        jobs.register(knowledge.building.jobs, knowledge.building.queues)
        jobs.register(*documents.declared())
        people = self._people(kit, runtimes)
        if await self._start_jobs(jobs, runtimes):
            await documents.sweep()
        if self.parts is not Parts.COMMAND:
            gauges = asyncio.create_task(self._keep_gauges(metrics), name="gauges")
            self.stack.callback(gauges.cancel)
        rates = RateLimits(metrics, redis_url=settings.redis_url)
        self.stack.push_async_callback(rates.close)
        keys = KeyRing(db, clock)
        return Container(
            settings=settings,
            db=db,
            clock=clock,
            metrics=metrics,
            audit=audit,
            flags=flags,
            keys=keys,
            users=UserTokens(signing_key(settings), keys, clock),
            rates=rates,
            readiness=Readiness(self._checks(jobs)),
            open_as=None if settings.auth else Principal(LOCAL_TENANT, "anonymous", Role.ADMIN, Tier.PRO),
            approvals=executor.approvals,
            tool_policies=tool_policies,
            documents=documents,
            reindexing=Reindexing(knowledge.building.generations, jobs, audit, clock),
            model=model,
            kit=kit,
            people=people,
            runtimes=runtimes,
        )

    async def _flags(self, audit: Audit, metrics: Metrics) -> Flags:
        flags = Flags(self.db, self.clock, audit=audit, metrics=metrics)
        flags.declare(*(FlagSpec(name, True, what) for name, what in SWITCHES.items()), *RETRIEVAL_FLAGS)
        for pack in PACKS:
            flags.declare(kill_switch(pack.name), *pack.flags)
        await flags.start()
        openfeature.set_provider(FlagProvider(flags), domain="trellis")
        self.stack.push_async_callback(flags.stop)
        return flags

    def _streams(self) -> Streams:
        streams = Streams(StreamTimes(self.settings.stream_kept_s, self.settings.stream_grace_s))
        self.stack.push_async_callback(streams.close)
        return streams

    def _redis(self) -> RedisLink | None:
        if self.settings.redis_url is None:
            return None
        link = connect(self.settings.redis_url)
        self.stack.push_async_callback(link.close)
        return link

    def _caches(self, metrics: Metrics, flags: Flags, redis: RedisLink | None) -> Caches:
        caches = Caches(
            metrics,
            lambda name, tenant: flags.bool(name, tenant or EVERY_TENANT),
            redis,
            self.clock,
            max_bytes=self.settings.cache_max_mb << 20,
            revision=version("trellis"),
        )
        caches.start()
        self.stack.push_async_callback(caches.close)
        return caches

    async def _ports(
        self,
        session: aiohttp.ClientSession,
        metrics: Metrics,
        flags: Flags,
        caches: Caches,
        redis: RedisLink | None,
    ) -> tuple[Ports, _Knowledge]:
        settings, db, clock = self.settings, self.db, self.clock
        embedders = self._embedders(session, caches)
        store = await self._vectors()
        versions = IndexVersions(db, clock)
        generations = Generations(db, versions, embedders)
        likings = CachedHistory(RedisCache(redis, "trellis:history", clock=clock) if redis else LruCache(), clock)
        retriever = Retriever(
            store,
            generations,
            caches.retrieval,
            metrics,
            glossary=Glossary.load(),
            guess=LanguageGuess.load(),
            history=likings,
            switched_on=flags.bool,
            ttl_s=settings.retrieval_cache_s,
        )
        built = integrations.build(_integration_settings(settings), db, session, clock)
        ports = Ports(db, clock, built.crm, built.calendar, built.mailer, retriever)
        parser = Parser.open(max_bytes=settings.max_upload_bytes)
        self.stack.push_async_callback(parser.close)
        ingestor = Ingestor(db, store, generations, versions, metrics, clock, reader=parser, caches=caches)
        repairs = Repairs(db, store, generations, ingestor)
        if self.parts is not Parts.COMMAND and settings.vectors_url is None:
            # The embedded index has one owner. A server's is the worker's to look after: many pods start beside it.
            await repairs.reconcile()
        building = Building(db, store, generations, ingestor.indexer, clock)
        of_questions = embedders.get(WordLlamaEmbedder.name)
        return ports, _Knowledge(store, of_questions, versions, likings, ingestor, repairs, building)

    def _embedders(self, session: aiohttp.ClientSession, caches: Caches) -> Embedders:
        settings = self.settings
        if settings.embedding_url is None:
            wordllama = WordLlamaEmbedder()
            self.stack.push_async_callback(wordllama.close)
            return Embedders(wordllama, wordllama_family(wordllama))
        key = settings.embedding_key.get_secret_value() if settings.embedding_key else None
        remote = OpenAiEmbedder(
            session, settings.embedding_url, settings.embedding_name or "", settings.embedding_dimension, key
        )
        late = LateWordLlama()
        self.stack.push_async_callback(late.close)
        return Embedders(CachedEmbedder(remote, caches.embeddings), wordllama_family(late))

    async def _vectors(self) -> VectorStore:
        """A server's index, or the data folder's; a command, which may run beside the process that owns the folder,
        gets an empty one."""
        if self.settings.vectors_url is not None:
            remote = await _remote_vectors(self.settings, self.settings.vectors_url)
            self.stack.push_async_callback(remote.close)
            return remote
        folder: Path | None = None if self.parts is Parts.COMMAND else self.settings.home / "vectors"
        store = EdgeVectors.open(folder)
        self.stack.push_async_callback(store.close)
        return store

    async def _router(
        self, session: aiohttp.ClientSession, breakers: Breakers, metrics: Metrics, caches: Caches
    ) -> tuple[ModelRouter, str]:
        """The router, and how its first model is called."""
        settings = self.settings
        endpoints = _endpoints(settings)
        offline = {**offline_rules(), **{name: rule for pack in PACKS for name, rule in pack.offline().items()}}
        routes = build_routes(
            endpoints,
            session,
            offline,
            stall_s=settings.model_stall_s,
            marks_prefix=settings.model_cache_control,
        )
        prices = load_prices(
            endpoints,
            settings.model_input_usd_per_million,
            settings.model_output_usd_per_million,
            settings.model_cached_input_usd_per_million,
        )
        caps = DailyCaps(settings.tenant_daily_tokens, micros(settings.tenant_daily_usd))
        budgets = Budgets(self.db, self.clock, lambda _principal: caps, metrics)
        await budgets.start()
        self.stack.push_async_callback(budgets.stop)
        router = ModelRouter(
            routes,
            breakers,
            prices,
            caches.models,
            budgets,
            metrics=metrics,
            clock=self.clock,
            call_timeout_s=settings.model_timeout_s,
        )
        first = next(route for route in routes if route.name == CHEAP).providers[0]
        return router, first.model if not endpoints else f"{first.model} at {endpoints[0].url}"

    def _assistant(
        self,
        ports: Ports,
        knowledge: _Knowledge,
        prompts: PromptLibrary,
        router: ModelRouter,
        agent: Agent,
        memory: ConversationMemory,
        caches: Caches,
        flags: Flags,
        audit: Audit,
        metrics: Metrics,
    ) -> Assistant:
        parts = ConversationParts(
            db=self.db,
            clock=self.clock,
            metrics=metrics,
            audit=audit,
            flags=flags,
            prompts=prompts,
            router=router,
            agent=agent,
            memory=memory,
            caches=caches,
            store=knowledge.store,
            embedder=knowledge.of_questions,
            versions=knowledge.versions,
            retriever=ports.retriever,
            likings=knowledge.likings,
        )
        assistant = build_assistant(parts)
        self.stack.push_async_callback(assistant.close)
        return assistant

    def _people(self, kit: Kit, runtimes: Mapping[str, PackRuntime]) -> People:
        stores = (
            *(store for runtime in runtimes.values() for store in runtime.people),
            LocalIntegrationsOfPerson(),
            DecisionsOfPerson(subject_of),
            WritesOfPerson(),
            AnswersOnceOfPerson(),
        )
        traces = (
            MemoryOfPerson(kit.memory),
            TastesOfPerson(kit.ports.retriever),
            AnswersOfPerson(self.db, kit.caches, kit.assistant, kit.streams),
            JobsOfPerson(kit.jobs),
        )
        secret, again_s = signing_key(self.settings), self.settings.erase_again_s
        people = People(self.db, kit.jobs, kit.audit, self.clock, secret, stores, traces, again_s=again_s)
        jobs, schedules = people.declared()
        kit.jobs.register(jobs, (), schedules)
        return people

    async def _start_jobs(self, jobs: Jobs, runtimes: Mapping[str, PackRuntime]) -> bool:
        """Whether this process is a worker."""
        jobs.register([Job(PURGE_KEYS, MAINTENANCE_QUEUE, self._purge_keys)], (), [PURGE_SCHEDULE])
        for runtime in runtimes.values():
            jobs.register(runtime.jobs, runtime.queues, runtime.schedules)
        works = self.parts is Parts.WORKER or (self.parts is Parts.SERVER and self.settings.worker)
        await jobs.start(worker=works)
        self.stack.push_async_callback(jobs.stop, self.settings.shutdown_grace_s)
        return works

    async def _keep_gauges(self, metrics: Metrics) -> None:
        """What waits for a person, and how far documents are: a query a scrape would be somebody else's to time."""
        while True:
            try:
                async with self.db.reading() as session:
                    waiting, documents = await count_waiting(session), await count_by_status(session)
            except Exception as error:
                log.warning("gauges.failed", error=str(error))
            else:
                metrics.effects_parked.set(waiting.parked)
                metrics.approvals_pending.set(waiting.pending)
                for status, count in documents.items():
                    metrics.documents.labels(status=status).set(count)
            await asyncio.sleep(GAUGES_S)

    async def _purge_keys(self, _context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        purged = 0
        while True:
            async with self.db.transaction() as session:
                batch = await purge_expired(session, self.clock(), PURGE_BATCH)
            purged += batch
            if batch < PURGE_BATCH:
                return {"purged": purged}

    def _checks(self, jobs: Jobs) -> dict[str, Check]:
        async def database() -> None:
            async with self.db.reading() as session:
                await session.execute(text("SELECT 1"))

        async def worker() -> None:
            if not jobs.alive:
                raise NotFound("The background worker has stopped: restart this process.")

        return {"database": database, "jobs": worker}


async def _remote_vectors(settings: Settings, url: str) -> VectorStore:
    # Its client takes half a second to import.
    from app.knowledge.qdrant import QdrantVectors, Shape

    key = settings.vectors_key.get_secret_value() if settings.vectors_key else None
    shape = Shape(settings.vectors_replicas, settings.vectors_int8)
    return await QdrantVectors.open(url, key=key, timeout_s=settings.vectors_timeout_s, shape=shape)


def _endpoints(settings: Settings) -> list[Endpoint]:
    """The configured model endpoints, in the order in which they are asked."""
    endpoints = []
    if settings.model_url is not None:
        key = settings.model_key.get_secret_value() if settings.model_key else None
        endpoints.append(Endpoint(settings.model_url, key, settings.model_name, settings.model_strong_name))
    if settings.model_fallback_url is not None:
        key = settings.model_fallback_key.get_secret_value() if settings.model_fallback_key else None
        endpoints.append(Endpoint(settings.model_fallback_url, key, settings.model_fallback_name))
    return endpoints


def _integration_settings(settings: Settings) -> integrations.IntegrationSettings:
    def secret(name: str) -> str:
        value = getattr(settings, name)
        return value.get_secret_value() if value else ""

    return integrations.IntegrationSettings(
        crm=settings.crm,
        calendar=settings.calendar,
        mailer=settings.mailer,
        vendor_tenants=settings.vendor_tenants,
        hours=BusinessHours(zone=settings.calendar_time_zone),
        hubspot_token=secret("hubspot_token"),
        salesforce_instance_url=settings.salesforce_instance_url or "",
        salesforce_client_id=settings.salesforce_client_id or "",
        salesforce_client_secret=secret("salesforce_client_secret"),
        google_calendar_id=settings.google_calendar_id or "",
        google_service_account_file=settings.google_service_account_file,
        google_subject=settings.google_subject,
        crm_fields=settings.crm_fields,
        sendgrid_key=secret("sendgrid_key"),
        mail_from=settings.mail_from,
    )
