"""The embedded vector store: one Qdrant Edge shard a namespace, in a folder, on a thread of its own."""

import asyncio
import fcntl
import hashlib
import math
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

import numpy as np
import qdrant_edge as edge
import structlog

from app.errors import ConfigError, TrellisError, Unavailable
from app.knowledge.base import Chunk, Hit, Namespace, Vectors
from app.knowledge.ranking import fuse

Args = ParamSpec("Args")
Result = TypeVar("Result")

DENSE = "dense"
BATCH = 256
CANDIDATES = 40
# Above this many KB the engine would build an HNSW graph (12 s without an answer at 20,000 chunks), which the
# embedded store does not need: an exact scan of 20,000 vectors takes under 2 ms.
NEVER_INDEX_KB = 1 << 40
_STOPWORDS = ("English", "German", "French", "Spanish", "Portuguese", "Italian", "Dutch", "Swedish", "Danish")

log = structlog.get_logger(__name__)


class EdgeVectors:
    """`VectorStore` over qdrant-edge.

    A namespace is a shard in a folder of its own: tenants share no index, no word statistics, no file. The
    folder belongs to one process at a time. What is in it derives from the chunks table: a shard that cannot be
    read is set aside, and `Ingestor.reconcile` fills a new one.

    Every call runs on the store's one thread. The engine lets go of the interpreter while it works, except
    while it flushes (70 to 170 ms): so it never flushes before `close`, its write-ahead log is what makes an
    update durable.
    """

    def __init__(
        self, folder: Path, lock: IO[str], dimension: int, scratch: "tempfile.TemporaryDirectory[str] | None"
    ) -> None:
        self._folder = folder
        self._lock = lock
        self._dimension = dimension
        self._scratch = scratch
        self._shards: dict[Namespace, edge.EdgeShard] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vectors")

    @classmethod
    def open(cls, folder: Path | None, *, embedder: str, dimension: int) -> "EdgeVectors":
        """Takes the folder's lock; None keeps the index in a temporary folder that goes with `close`.

        Vectors of each embedder lie apart, so a changed embedder starts empty.
        Raises ConfigError where the folder cannot be written, or another process has it open.
        """
        scratch = tempfile.TemporaryDirectory(prefix="trellis-vectors-") if folder is None else None
        root = Path(scratch.name) if scratch else folder
        assert root is not None
        lock = _lock(root)
        own = root / f"{re.sub(r'[^a-zA-Z0-9]+', '-', embedder)[:60]}-{dimension}-{_digest(embedder)[:8]}"
        own.mkdir(exist_ok=True)
        return cls(own, lock, dimension, scratch)

    async def ensure(self, namespace: Namespace) -> None:
        await self._run(self._shard, namespace)

    async def upsert(self, namespace: Namespace, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        if vectors.shape != (len(chunks), self._dimension):
            raise ValueError(
                f"{len(chunks)} chunks of dimension {self._dimension}, but vectors of shape {vectors.shape}"
            )
        for start in range(0, len(chunks), BATCH):
            part = slice(start, start + BATCH)
            await self._run(self._upsert, namespace, chunks[part], vectors[part])

    async def delete(self, namespace: Namespace, document_ids: Sequence[str]) -> None:
        await self._run(self._delete, namespace, "document_id", list(document_ids))

    async def delete_chunks(self, namespace: Namespace, chunk_ids: Sequence[str]) -> None:
        await self._run(self._delete, namespace, "id", list(chunk_ids))

    async def drop(self, namespace: Namespace) -> None:
        await self._run(self._drop, namespace)

    async def search(
        self,
        namespace: Namespace,
        vectors: Vectors,
        text: str,
        limit: int,
        dense_weight: float = 0.7,
        tags: Sequence[str] = (),
    ) -> list[Hit]:
        return await self._run(self._search, namespace, vectors, text, limit, dense_weight, tags)

    async def chunk_ids(self, namespace: Namespace, document_id: str | None = None) -> Mapping[str, frozenset[str]]:
        return await self._run(self._chunk_ids, namespace, document_id)

    async def count(self, namespace: Namespace) -> int:
        return await self._run(self._count, namespace)

    async def close(self) -> None:
        """Writes everything out, lets the folder go. The store cannot be used after it."""
        await self._run(self._close)
        self._thread.shutdown(wait=True)
        self._lock.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    async def _run(self, work: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **kwargs))
        except (TrellisError, OSError):
            raise
        except Exception as error:  # the engine raises bare Exception
            raise Unavailable(f"The vector index could not do this: {error}", retry_after=1) from error

    # Everything below runs on the store's thread.

    def _path(self, namespace: Namespace) -> Path:
        return self._folder / _digest("\0".join(namespace))[:32]

    def _existing(self, namespace: Namespace) -> "edge.EdgeShard | None":
        if namespace in self._shards or self._path(namespace).exists():
            return self._shard(namespace)
        return None

    def _shard(self, namespace: Namespace) -> "edge.EdgeShard":
        shard = self._shards.get(namespace)
        if shard is None:
            shard = self._shards[namespace] = self._load(self._path(namespace))
        return shard

    def _load(self, path: Path) -> "edge.EdgeShard":
        if not path.exists():
            return _create(path, self._dimension)
        try:
            return edge.EdgeShard.load(str(path))
        except Exception as error:  # the engine raises bare Exception
            if "WouldBlock" in str(error):  # its own lock: open already, not damaged
                raise
            aside = path.with_name(f"{path.name}.damaged-{uuid.uuid4().hex[:8]}")
            path.rename(aside)
            log.error("vector index cannot be read, set aside", folder=str(aside), error=str(error))
            return _create(path, self._dimension)

    def _upsert(self, namespace: Namespace, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        points = [
            edge.Point(id=_point_id(chunk.id), vector={DENSE: row.tolist()}, payload=_payload(chunk))
            for chunk, row in zip(chunks, vectors, strict=True)
        ]
        self._shard(namespace).update(edge.UpdateOperation.upsert_points(points))

    def _delete(self, namespace: Namespace, field: str, values: list[str]) -> None:
        shard = self._existing(namespace)
        if shard is None or not values:
            return
        if field == "id":
            shard.update(edge.UpdateOperation.delete_points([_point_id(value) for value in values]))
        else:
            shard.update(edge.UpdateOperation.delete_points_by_filter(_any_of(field, values)))

    def _drop(self, namespace: Namespace) -> None:
        shard = self._shards.pop(namespace, None)
        if shard is not None:
            shard.close()
        shutil.rmtree(self._path(namespace), ignore_errors=True)

    def _count(self, namespace: Namespace) -> int:
        shard = self._existing(namespace)
        return shard.count(edge.CountRequest(exact=True)) if shard else 0

    def _search(
        self, namespace: Namespace, vectors: Vectors, text: str, limit: int, dense_weight: float, tags: Sequence[str]
    ) -> list[Hit]:
        shard = self._existing(namespace)
        if shard is None or limit < 1:
            return []
        wordings = [row for row in vectors if row.any()] if dense_weight > 0 else []
        found = shard.query_batch(edge.QueryBatchRequest(_queries(wordings, text, max(CANDIDATES, 2 * limit), tags)))
        nearest = _best_of(found[: len(wordings)])
        words = {str(point.id): point.score for point in found[-1]}
        fused = fuse([(nearest, dense_weight), (list(words), 1 - dense_weight)])
        best = sorted(fused, key=lambda point: (-fused[point], point))[:limit]
        scale = math.log1p(shard.count(edge.CountRequest(exact=True)))
        return [
            Hit(chunk, fused[point], tuple((vectors @ vector).tolist()), words.get(point, 0.0) / scale)
            for point, chunk, vector in _fetch(shard, best)
        ]

    def _chunk_ids(self, namespace: Namespace, document_id: str | None) -> Mapping[str, frozenset[str]]:
        shard = self._existing(namespace)
        found: dict[str, set[str]] = {}
        held = _any_of("document_id", [document_id]) if document_id else None
        for payload in _scroll(shard, held) if shard else ():
            found.setdefault(payload["document_id"], set()).add(payload["id"])
        return {document: frozenset(chunks) for document, chunks in found.items()}

    def _close(self) -> None:
        for shard in self._shards.values():
            shard.close()
        self._shards.clear()


def _lock(folder: Path) -> IO[str]:
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"The vector index cannot be kept in '{folder}': {error.strerror}. Make the folder writable."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise ConfigError(
            f"The vector index in '{folder}' is open in another process (pid {owner}). Stop that one, or set "
            "TRELLIS_HOME to another folder."
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _create(path: Path, dimension: int) -> "edge.EdgeShard":
    vectors = edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Cosine)
    config = edge.EdgeConfig(
        vectors={DENSE: vectors},
        max_search_threads=1,
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=NEVER_INDEX_KB, default_segment_number=1),
    )
    shard = edge.EdgeShard.create(str(path), config)
    words = edge.TextIndexParams(
        scoring=True,
        ascii_folding=True,
        stemmer=edge.SnowballParams(edge.SnowballLanguage.English),
        stopwords=edge.StopwordsSet(languages={getattr(edge.Language, name) for name in _STOPWORDS}),
    )
    indexes: dict[str, Any] = {
        "words": words,
        "tags": edge.KeywordIndexParams(),
        "document_id": edge.KeywordIndexParams(),
    }
    for field, schema in indexes.items():
        shard.update(edge.UpdateOperation.create_field_index(field, schema))
    return shard


def _queries(wordings: Sequence[Any], text: str, candidates: int, tags: Sequence[str]) -> list["edge.QueryRequest"]:
    held = _any_of("tags", list(tags)) if tags else None
    dense = [
        edge.QueryRequest(
            limit=candidates,
            query=edge.Query.Nearest(row.tolist(), using=DENSE),
            filter=held,
            params=edge.SearchParams(exact=True),
        )
        for row in wordings
    ]
    return [*dense, edge.QueryRequest(limit=candidates, query=edge.TextQuery("words", text), filter=held)]


def _best_of(rankings: Sequence[Sequence["edge.ScoredPoint"]]) -> list[str]:
    """One ranking of several by the best similarity in any."""
    best: dict[str, float] = {}
    for ranking in rankings:
        for point in ranking:
            best[str(point.id)] = max(point.score, best.get(str(point.id), -1.0))
    return sorted(best, key=lambda point: (-best[point], point))


def _fetch(shard: "edge.EdgeShard", points: Sequence[str]) -> Iterator[tuple[str, Chunk, Any]]:
    records = {str(record.id): record for record in shard.retrieve(list(points), True, True)}
    for point in points:
        record: Any = records[point]
        yield point, _chunk(record.payload), np.array(record.vector[DENSE], np.float32)


def _scroll(shard: "edge.EdgeShard", held: "edge.Filter | None") -> Iterator[dict[str, Any]]:
    offset, fields = None, ["document_id", "id"]
    while True:
        request = edge.ScrollRequest(offset=offset, limit=1000, filter=held, with_payload=fields, with_vector=False)
        records, offset = shard.scroll(request)
        for record in records:
            yield record.payload or {}
        if offset is None:
            return


def _any_of(field: str, values: list[str]) -> "edge.Filter":
    return edge.Filter(must=[edge.FieldCondition(key=field, match=edge.MatchAny(values))])


def _payload(chunk: Chunk) -> dict[str, Any]:
    return {
        "id": chunk.id,
        "document_id": chunk.document_id,
        "slug": chunk.slug,
        "title": chunk.title,
        "heading": chunk.heading,
        "ordinal": chunk.ordinal,
        "text": chunk.text,
        "tags": list(chunk.tags),
        "words": f"{chunk.indexed_text}\n{' '.join(chunk.tags)}",
    }


def _chunk(payload: Mapping[str, Any]) -> Chunk:
    return Chunk(
        id=payload["id"],
        document_id=payload["document_id"],
        slug=payload["slug"],
        title=payload["title"],
        heading=payload["heading"],
        ordinal=payload["ordinal"],
        text=payload["text"],
        tags=tuple(payload["tags"]),
    )


def _point_id(chunk_id: str) -> str:
    return str(uuid.UUID(chunk_id.removeprefix("chk_")))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
