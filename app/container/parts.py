"""What a process needs to start and to be ready, and what it does without (docs/decisions/0033-processes.md)."""

import structlog
from sqlalchemy import text

from app.cache.connection import RedisAway, RedisLink
from app.container.ground import Ground
from app.container.knowledge import Knowledge
from app.errors import NotFound, TrellisError, Unavailable
from app.governance.flags import Flags
from app.http.health import Check, Readiness
from app.jobs.engine import Jobs
from app.knowledge.base import Embedder, Namespace, VectorStore
from app.storage import schema
from app.storage.db import Database

_log = structlog.get_logger(__name__)
_NOBODY = Namespace("ready", "ready")


def readiness(ground: Ground, knowledge: Knowledge, jobs: Jobs) -> Readiness:
    """Of the whole process. Required is only what it can do nothing without."""
    db = ground.db
    optional: dict[str, Check] = {"vectors": _vectors(knowledge.store)}
    if db.reader is not db.writer and db.dialect == "postgresql":
        optional["replica"] = _replica(db)
    if ground.redis is not None:
        optional["redis"] = _redis(ground.redis)
    fits = _schema(db)

    def told(part: str, ok: bool) -> None:
        ground.metrics.part_up.labels(part).set(ok)

    return Readiness(
        {"database": _database(db), "schema": fits, "jobs": _jobs(jobs)},
        optional,
        startup={"schema": fits, "flags": _flags(ground.flags), "embedder": _embedder(ground, knowledge.of_questions)},
        told=told,
    )


def _database(db: Database) -> Check:
    async def check() -> None:
        async with db.operator_reading() as session:
            await session.execute(text("SELECT 1"))

    return check


def _schema(db: Database) -> Check:
    fits: list[str | None] = []

    async def check() -> None:
        # One cheap question; only a revision that was not seen before is looked up among those that this program knows.
        try:
            current = await schema.current_revision(db)
            if current not in fits:
                await schema.check(db)
                fits[:] = [current]
        except TrellisError as error:
            if error.__cause__ is None:
                raise
            # What the database itself said: our sentence for it names its address and login, and anybody may read this.
            _log.warning("schema not read", error=error.detail)
            raise Unavailable("The database's schema cannot be read: see the log.", retry_after=5) from error

    return check


def _replica(db: Database) -> Check:
    async def check() -> None:
        async with db.reader.connect() as connection:
            await connection.execute(text("SELECT 1"))

    return check


def _redis(link: RedisLink) -> Check:
    async def check() -> None:
        try:
            await link.run(lambda commands: commands.exists("trellis:ready"))
        except RedisAway:
            raise Unavailable("Redis does not answer: this process does without.", retry_after=5) from None
        if link.away:
            raise Unavailable(f"{link.away} nodes of Redis do not answer.", retry_after=5)

    return check


def _vectors(store: VectorStore) -> Check:
    async def check() -> None:
        await store.count(_NOBODY)

    return check


def _jobs(jobs: Jobs) -> Check:
    async def check() -> None:
        if not jobs.alive:
            raise NotFound("The background worker has stopped: restart this process.")

    return check


def _flags(flags: Flags) -> Check:
    async def check() -> None:
        if flags.refreshed_at is None:
            raise Unavailable("The flags were not read yet.", retry_after=1)

    return check


def _embedder(ground: Ground, of_questions: Embedder) -> Check:
    async def check() -> None:
        # Another's embedder is loaded by itself, and its outage must not keep a process from starting.
        if ground.settings.embedding_url is None:
            await of_questions.embed(["started"])

    return check
