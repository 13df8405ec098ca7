"""What every other part stands on: settings, database, metrics, flags, caches, one HTTP session."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import aiohttp
from openfeature import api as openfeature

from app.cache.caches import SWITCHES, Caches
from app.cache.connection import RedisLink, connect
from app.cache.marks import RedisMarks
from app.clock import Clock
from app.container.container import Parts
from app.container.grace import Grace
from app.governance.audit import Audit
from app.governance.flags import MCP_SWITCH, Flags, FlagSpec, kill_switch
from app.governance.openfeature import FlagProvider
from app.knowledge.retrieve import FLAGS as RETRIEVAL_FLAGS
from app.pack import Pack
from app.principal import EVERY_TENANT
from app.settings import Environment, Settings
from app.storage import roles, schema
from app.storage.db import Database
from app.storage.pools import idle, in_use
from app.storage.postgres import ServerPool, check_room
from app.telemetry.metrics import Metrics
from app.telemetry.setup import Telemetry


@dataclass(frozen=True, slots=True)
class Ground:
    """Open; `stack` closes what is put on it in the opposite order."""

    settings: Settings
    parts: Parts
    clock: Clock
    db: Database
    stack: AsyncExitStack
    metrics: Metrics
    audit: Audit
    flags: Flags
    redis: RedisLink | None
    caches: Caches
    session: aiohttp.ClientSession
    grace: Grace
    telemetry: Telemetry

    @property
    def works(self) -> bool:
        """Whether this process runs jobs."""
        return self.parts is Parts.WORKER or (self.parts is Parts.SERVER and self.settings.worker)


async def lay_ground(
    settings: Settings,
    parts: Parts,
    clock: Clock,
    stack: AsyncExitStack,
    packs: Sequence[Pack],
    metrics: Metrics,
    telemetry: Telemetry,
) -> Ground:
    grace = Grace(settings.shutdown_grace_s)
    stack.push_async_callback(_close_telemetry, telemetry, grace)
    redis = _redis(settings, metrics, stack)
    db = await _database(settings, metrics, redis, stack)
    _instrument(telemetry, db, redis)
    audit = Audit(clock, metrics)
    flags = Flags(db, clock, audit=audit, metrics=metrics)
    await _start_flags(flags, packs, stack)
    caches = _caches(settings, clock, metrics, flags, redis)
    stack.push_async_callback(caches.close)
    configs = telemetry.instruments.trace_configs()
    session = await stack.enter_async_context(
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trace_configs=configs)
    )
    return Ground(settings, parts, clock, db, stack, metrics, audit, flags, redis, caches, session, grace, telemetry)


def _instrument(telemetry: Telemetry, db: Database, redis: RedisLink | None) -> None:
    for engine in {db.writer, db.reader}:
        telemetry.instruments.engine(engine)
    if redis is not None:
        telemetry.instruments.redis(redis.client)


async def _close_telemetry(telemetry: Telemetry, grace: Grace) -> None:
    await telemetry.close(grace.left())


async def _start_flags(flags: Flags, packs: Sequence[Pack], stack: AsyncExitStack) -> None:
    flags.declare(*(FlagSpec(name, True, what) for name, what in SWITCHES.items()), *RETRIEVAL_FLAGS)
    flags.declare(MCP_SWITCH)
    for pack in packs:
        flags.declare(kill_switch(pack.name), *pack.flags)
    await flags.start()
    openfeature.set_provider(FlagProvider(flags), domain="trellis")
    stack.push_async_callback(flags.stop)


async def _database(settings: Settings, metrics: Metrics, redis: RedisLink | None, stack: AsyncExitStack) -> Database:
    db = Database(
        settings.sqlalchemy_url,
        reader_url=settings.database_reader_url,
        pool=ServerPool(settings.pool_size, settings.database_statement_s, settings.database_pooled),
        marks=RedisMarks(redis) if redis else None,
        told=lambda where: metrics.database_reads.labels(where).inc(),
        waited=metrics.database_connection_wait_seconds.observe,
    )
    stack.push_async_callback(db.close)
    _show_pools(db, metrics)
    await schema.check(db)
    # The app's own pool and the job engine's; what goes through PgBouncer opens none by itself.
    await check_room(db.writer, settings.pool_size * (1 if settings.database_pooled else 2))
    await roles.check(db.writer, settings.database_logins, strict=settings.environment is Environment.PRODUCTION)
    return db


def _show_pools(db: Database, metrics: Metrics) -> None:
    """Read when the figures are asked for."""
    engines = {"writer": db.writer} if db.reader is db.writer else {"writer": db.writer, "reader": db.reader}
    for name, engine in engines.items():
        metrics.database_connections.labels(name, "in_use").set_function(partial(in_use, engine))
        metrics.database_connections.labels(name, "idle").set_function(partial(idle, engine))


def _redis(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> RedisLink | None:
    if settings.redis_url is None:
        return None
    link = connect(settings.redis_url, told=lambda use: metrics.redis_fallbacks.labels(use).inc())
    metrics.redis_away.set_function(lambda: link.away)
    stack.push_async_callback(link.close)
    return link


def _caches(settings: Settings, clock: Clock, metrics: Metrics, flags: Flags, redis: RedisLink | None) -> Caches:
    caches = Caches(
        metrics,
        lambda name, tenant: flags.bool(name, tenant or EVERY_TENANT),
        redis,
        clock,
        max_bytes=settings.cache_max_mb << 20,
        revision=version("trellis"),
    )
    caches.start()
    return caches
