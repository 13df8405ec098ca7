"""The rows of one installation and an index over them, without the rest of the app: for what moves or checks them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import aiohttp

from app.cache.caches import Caches
from app.cache.lru import LruCache
from app.clock import Clock, system_clock
from app.container.knowledge import embedders_of, remote_vectors
from app.knowledge.base import VectorStore
from app.knowledge.boosts import CachedHistory
from app.knowledge.edge import EdgeVectors
from app.knowledge.generations import Generations
from app.knowledge.language import Glossary, LanguageGuess
from app.knowledge.retrieve import Retriever
from app.knowledge.versions import IndexVersions
from app.settings import Settings
from app.storage.db import Database
from app.storage.postgres import ServerPool
from app.telemetry.setup import build_metrics

CONNECTIONS = 2
STATEMENT_S = 300.0


@dataclass(frozen=True, slots=True)
class Index:
    """Open. The retriever keeps nothing from one search for the next."""

    db: Database
    store: VectorStore
    generations: Generations
    retriever: Retriever


@asynccontextmanager
async def open_index(settings: Settings, *, scratch: bool = False, clock: Clock = system_clock) -> AsyncIterator[Index]:
    """The database and the index of these settings; `scratch`: an empty index instead, which goes with the block.

    Raises ConfigError where another process has the embedded index open, Unavailable where the vector server is away.
    """
    async with AsyncExitStack() as stack:
        db = Database(settings.direct_database_url, pool=ServerPool(CONNECTIONS, STATEMENT_S))
        stack.push_async_callback(db.close)
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        metrics = build_metrics(version("trellis"), settings.phase)
        caches = Caches(metrics, lambda _name, _tenant: False, None, clock)
        embedders = embedders_of(settings, session, stack, caches.embeddings)
        store = await _store(settings, scratch=scratch)
        stack.push_async_callback(store.close)
        generations = Generations(db, IndexVersions(db, clock), embedders)
        retriever = Retriever(
            store,
            generations,
            caches.retrieval,
            metrics,
            glossary=Glossary.load(),
            guess=LanguageGuess.load(),
            history=CachedHistory(LruCache(), clock),
        )
        yield Index(db, store, generations, retriever)


async def _store(settings: Settings, *, scratch: bool) -> VectorStore:
    if settings.vectors_url is not None and not scratch:
        return await remote_vectors(settings, settings.vectors_url)
    folder: Path | None = None if scratch else settings.home / "vectors"
    return EdgeVectors.open(folder)
