"""The knowledge room, and the ports that tools are built from."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from app.cache.lru import LruCache
from app.cache.redis import RedisCache
from app.cache.tiered import TieredCache
from app.container.container import Parts
from app.container.ground import Ground
from app.container.outside import integration_settings
from app.integrations import registry as integrations
from app.knowledge.base import Embedder, VectorStore
from app.knowledge.boosts import CachedHistory
from app.knowledge.building import Building
from app.knowledge.edge import EdgeVectors
from app.knowledge.embedders import CachedEmbedder, OpenAiEmbedder, WordLlamaEmbedder
from app.knowledge.generations import Generations
from app.knowledge.ingest import Ingestor
from app.knowledge.language import Glossary, LanguageGuess
from app.knowledge.parsing.parser import Parser
from app.knowledge.registry import Embedders, LateWordLlama, wordllama_family
from app.knowledge.repair import Repairs
from app.knowledge.retrieve import Retriever
from app.knowledge.versions import IndexVersions
from app.pack import Ports
from app.settings import Settings, revealed


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The knowledge room, open. `of_questions` embeds for the answers by meaning, whatever the settings' embedder."""

    store: VectorStore
    of_questions: Embedder
    versions: IndexVersions
    ingestor: Ingestor
    repairs: Repairs
    building: Building


async def open_knowledge(ground: Ground) -> tuple[Ports, Knowledge]:
    """The vector index of the settings; the embedded one is repaired before anything is served."""
    settings, db, clock, redis = ground.settings, ground.db, ground.clock, ground.redis
    embedders = embedders_of(settings, ground.session, ground.stack, ground.caches.embeddings)
    store = await _vectors(ground)
    versions = IndexVersions(db, clock)
    generations = Generations(db, versions, embedders)
    kept = RedisCache(redis, "trellis:history", clock=clock) if redis else LruCache()
    retriever = Retriever(
        store,
        generations,
        ground.caches.retrieval,
        ground.metrics,
        glossary=Glossary.load(),
        guess=LanguageGuess.load(),
        history=CachedHistory(kept, clock),
        switched_on=ground.flags.bool,
        ttl_s=settings.retrieval_cache_s,
    )
    built = integrations.build(integration_settings(settings), db, ground.session, clock)
    ports = Ports(db, clock, built.crm, built.calendar, built.mailer, retriever, built.code, built.accounts)
    parser = Parser.open(max_bytes=settings.max_upload_bytes)
    ground.stack.push_async_callback(parser.close)
    ingestor = Ingestor(db, store, generations, versions, ground.metrics, clock, reader=parser, caches=ground.caches)
    repairs = Repairs(db, store, generations, ingestor)
    if ground.parts is not Parts.COMMAND and settings.vectors_url is None:
        # The embedded index has one owner. A server's is the worker's to look after: many pods start beside it.
        await repairs.reconcile()
    building = Building(db, store, generations, ingestor.indexer, clock)
    of_questions = embedders.get(WordLlamaEmbedder.name)
    return ports, Knowledge(store, of_questions, versions, ingestor, repairs, building)


def embedders_of(
    settings: Settings, session: aiohttp.ClientSession, stack: AsyncExitStack, cache: TieredCache
) -> Embedders:
    """What the settings embed with, and the embedded model beside it; closed with the stack."""
    if settings.embedding_url is None:
        wordllama = WordLlamaEmbedder()
        stack.push_async_callback(wordllama.close)
        return Embedders(wordllama, wordllama_family(wordllama))
    key = revealed(settings.embedding_key)
    remote = OpenAiEmbedder(
        session, settings.embedding_url, settings.embedding_name or "", settings.embedding_dimension, key
    )
    late = LateWordLlama()
    stack.push_async_callback(late.close)
    return Embedders(CachedEmbedder(remote, cache), wordllama_family(late))


async def _vectors(ground: Ground) -> VectorStore:
    """A server's index, or the data folder's; a command, which may run beside the process that owns the folder,
    gets an empty one."""
    if ground.settings.vectors_url is not None:
        remote = await remote_vectors(ground.settings, ground.settings.vectors_url)
        ground.stack.push_async_callback(remote.close)
        return remote
    folder: Path | None = None if ground.parts is Parts.COMMAND else ground.settings.home / "vectors"
    store = EdgeVectors.open(folder)
    ground.stack.push_async_callback(store.close)
    return store


async def remote_vectors(settings: Settings, url: str) -> VectorStore:
    """Raises Unavailable, ConfigError."""
    # Its client takes half a second to import.
    from app.knowledge.qdrant import QdrantVectors, Shape

    key = revealed(settings.vectors_key)
    shape = Shape(
        settings.vectors_replicas, settings.vectors_write_replicas, settings.vectors_shards, settings.vectors_int8
    )
    return await QdrantVectors.open(
        url, key=key, timeout_s=settings.vectors_timeout_s, grpc_port=settings.vectors_grpc_port, shape=shape
    )
