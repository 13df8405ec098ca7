"""An ingestor and a retriever over the plain store."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry

from app.cache.lru import LruCache
from app.cache.tiered import TieredCache
from app.knowledge.boosts import CachedHistory
from app.knowledge.chunking import Bounds
from app.knowledge.generations import Generations
from app.knowledge.ingest import Ingestor
from app.knowledge.language import Glossary, LanguageGuess
from app.knowledge.ranking import Calibration
from app.knowledge.registry import Embedders
from app.knowledge.repair import Repairs
from app.knowledge.retrieve import Retriever, SwitchedOn, Tuning
from app.knowledge.versions import IndexVersions
from app.storage.db import Database
from app.telemetry.metrics import Metrics
from tests.conftest import StillClock
from tests.support.reading import FakeReader, NotedCaches
from tests.support.vectors import ReferenceVectors, WordsEmbedder

BOUNDS = Bounds(largest=200, smallest=40, overlap=0)


@dataclass
class Knowledge:
    """The room, put together: one database and one store, looked at from both sides."""

    db: Database
    clock: StillClock
    store: ReferenceVectors
    embedder: WordsEmbedder
    versions: IndexVersions
    metrics: Metrics
    ingestor: Ingestor
    repairs: Repairs
    build: Callable[[SwitchedOn], Retriever]
    registry: CollectorRegistry
    reader: FakeReader
    caches: NotedCaches

    def with_embedders(self, embedder: WordsEmbedder, *others: WordsEmbedder) -> tuple[Ingestor, Repairs]:
        """Ingestor and repairs of a process whose settings name another embedder, or more."""
        generations = Generations(self.db, self.versions, Embedders(embedder, others), BOUNDS)
        ingestor = self.with_generations(generations)
        return ingestor, Repairs(self.db, self.store, generations, ingestor)

    def with_generations(self, generations: Generations) -> Ingestor:
        """The ingestor of a process that knows these."""
        return Ingestor(self.db, self.store, generations, self.versions, self.metrics, self.clock)

    @property
    def retriever(self) -> Retriever:
        """With every flag off."""
        return self.build(lambda _flag, _tenant: False)

    def switched(self, flag: str, *tenants: str) -> Retriever:
        """With one flag on for these tenants; histories and caches are those of the other."""
        return self.build(lambda name, tenant: name == flag and tenant in tenants)

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"trellis_{name}", labels) or 0.0


@pytest.fixture
def knowledge(db: Database, clock: StillClock) -> Knowledge:
    store, embedder, registry = ReferenceVectors(), WordsEmbedder(), CollectorRegistry()
    metrics = Metrics(registry)
    versions = IndexVersions(db, clock)
    reader, caches = FakeReader(), NotedCaches()
    generations = Generations(db, versions, Embedders(embedder), BOUNDS)
    ingestor = Ingestor(db, store, generations, versions, metrics, clock, reader=reader, caches=caches)
    history = CachedHistory(LruCache(100, 1 << 20, lambda: clock().timestamp()), clock)
    cache = TieredCache("retrieval", LruCache(100, 1 << 20, lambda: clock().timestamp()), None, metrics)

    def build(switched_on: SwitchedOn) -> Retriever:
        return Retriever(
            store,
            generations,
            cache,
            metrics,
            glossary=Glossary.load(),
            guess=LanguageGuess.load(),
            history=history,
            switched_on=switched_on,
            tuning=Tuning(Calibration(cosine=4, lexical=4, intercept=-3, floor=0.5)),
        )

    repairs = Repairs(db, store, generations, ingestor)
    return Knowledge(db, clock, store, embedder, versions, metrics, ingestor, repairs, build, registry, reader, caches)
