"""The sample's pages behind a real retriever, in a folder that goes with it."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from app.clock import Clock
from app.knowledge.edge import EdgeVectors
from app.knowledge.embedders import WordLlamaEmbedder
from app.knowledge.ingest import Ingestor
from app.knowledge.language import Glossary, LanguageGuess
from app.knowledge.retrieve import Retriever
from app.knowledge.versions import IndexVersions
from app.packs.leads.sample_data import sample_pages
from app.packs.leads.tools import BOT
from app.storage.base import Base
from app.storage.db import Database
from app.telemetry.metrics import Metrics

TENANT = "evaluation"


@asynccontextmanager
async def sample_retriever(clock: Clock) -> AsyncIterator[Retriever]:
    """The embedded search over the shipped pages, for the tenant `evaluation`; nothing is left behind."""
    embedder = WordLlamaEmbedder()
    store = EdgeVectors.open(None)
    with tempfile.TemporaryDirectory(prefix="trellis-evaluation-") as folder:
        db = Database(f"sqlite+aiosqlite:///{Path(folder) / 'evaluation.db'}")
        try:
            async with db.writer.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            metrics = Metrics(CollectorRegistry())
            versions = IndexVersions(db, clock)
            ingestor = Ingestor(db, store, embedder, versions, metrics, clock)
            for page in sample_pages():
                await ingestor.put_page(TENANT, BOT, page)
            yield Retriever(
                store, embedder, versions, metrics, clock, glossary=Glossary.load(), guess=LanguageGuess.load()
            )
        finally:
            await db.close()
            await store.close()
            await embedder.close()
