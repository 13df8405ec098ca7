"""An ingestor and a retriever over the plain store."""

from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry

from app.knowledge.chunking import Bounds
from app.knowledge.ingest import Ingestor
from app.knowledge.language import Glossary, LanguageGuess
from app.knowledge.ranking import Calibration
from app.knowledge.retrieve import Retriever
from app.knowledge.versions import IndexVersions
from app.storage.db import Database
from app.telemetry.metrics import Metrics
from tests.conftest import StillClock
from tests.support.vectors import ReferenceVectors, WordsEmbedder


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
    retriever: Retriever
    registry: CollectorRegistry

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"trellis_{name}", labels) or 0.0


@pytest.fixture
def knowledge(db: Database, clock: StillClock) -> Knowledge:
    store, embedder, registry = ReferenceVectors(), WordsEmbedder(), CollectorRegistry()
    metrics = Metrics(registry)
    versions = IndexVersions(db, clock)
    bounds = Bounds(largest=200, smallest=40, overlap=0)
    ingestor = Ingestor(db, store, embedder, versions, metrics, clock, bounds)
    retriever = Retriever(
        store,
        embedder,
        versions,
        metrics,
        clock,
        glossary=Glossary.load(),
        guess=LanguageGuess.load(),
        calibration=Calibration(cosine=4, lexical=4, intercept=-3, floor=0.5),
    )
    return Knowledge(db, clock, store, embedder, versions, metrics, ingestor, retriever, registry)
