"""The room put together in a folder that goes with it, for evaluations."""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from app.cache.lru import LruCache
from app.cache.tiered import TieredCache
from app.clock import Clock, system_clock
from app.knowledge.base import Embedder, VectorStore
from app.knowledge.boosts import CachedHistory
from app.knowledge.edge import EdgeVectors
from app.knowledge.embedders import WordLlamaEmbedder
from app.knowledge.generations import Generations
from app.knowledge.ingest import Ingestor
from app.knowledge.language import Glossary, LanguageGuess
from app.knowledge.registry import Embedders
from app.knowledge.retrieve import Retriever, Tuning
from app.knowledge.versions import IndexVersions
from app.storage.base import Base
from app.storage.db import Database
from app.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Workbench:
    """The embedded search and the way into it; every search is made anew."""

    ingestor: Ingestor
    retriever: Retriever
    store: VectorStore
    embedder: Embedder


@asynccontextmanager
async def workbench(
    clock: Clock = system_clock,
    *,
    glossary: Glossary | None = None,
    tuning: Tuning | None = None,
    as_embedded: Callable[[Embedder], Embedder] = lambda wordllama: wordllama,
) -> AsyncIterator[Workbench]:
    """Opens it empty; nothing is left behind. `as_embedded` makes the embedder that is used out of WordLlama."""
    wordllama = WordLlamaEmbedder()
    embedder = as_embedded(wordllama)
    store = EdgeVectors.open(None)
    with tempfile.TemporaryDirectory(prefix="trellis-evaluation-") as folder:
        db = Database(f"sqlite+aiosqlite:///{Path(folder) / 'evaluation.db'}")
        try:
            async with db.writer.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            metrics, versions = Metrics(CollectorRegistry()), IndexVersions(db, clock)
            generations = Generations(db, versions, Embedders(embedder))
            retriever = Retriever(
                store,
                generations,
                TieredCache("retrieval", LruCache(), None, metrics, lambda _tenant: False),
                metrics,
                glossary=glossary or Glossary.load(),
                guess=LanguageGuess.load(),
                history=CachedHistory(LruCache(), clock),
                tuning=tuning,
            )
            yield Workbench(Ingestor(db, store, generations, versions, metrics, clock), retriever, store, embedder)
        finally:
            await db.close()
            await store.close()
            await wordllama.close()
