"""The embedded vector store: one Qdrant Edge shard a namespace, in a folder, on a thread of its own."""

import asyncio
import fcntl
import math
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import qdrant_edge as edge
import structlog
from cachetools import LRUCache

from app.errors import ConfigError, TrellisError, Unavailable
from app.knowledge.base import Chunk, Hit, Namespace, Vectors
from app.knowledge.points import CANDIDATES, DENSE, STOPWORDS, WORDS, best_of, chunk_of, digest_of, payload_of
from app.knowledge.ranking import fuse_hybrid
from app.telemetry import spans

Args = ParamSpec("Args")
Result = TypeVar("Result")
PointId = int | uuid.UUID | str
_Record = tuple[Chunk, Vectors]

BATCH = 256
RECORDS = 4096
# Above this many KB the engine would build an HNSW graph (12 s without an answer at 20,000 chunks), which the
# embedded store does not need: an exact scan of 20,000 vectors takes under 2 ms.
NEVER_INDEX_KB = 1 << 40

_SHARD = re.compile(r"[0-9a-f]{32}-(\d+)")
_FIRST_LAYOUT = re.compile(r"-\d+-[0-9a-f]{8}$")

log = structlog.get_logger(__name__)


class _Shard(NamedTuple):
    engine: "edge.EdgeShard"
    dimension: int


class EdgeVectors:
    """`VectorStore` over qdrant-edge.

    A namespace is a shard in a folder of its own, named by namespace and dimension: tenants share no index, no word
    statistics, no file. The store's folder belongs to one process at a time. What is in it derives from the chunks
    table: a shard that cannot be read is set aside, and `Repairs.reconcile` fills a new one.

    Every call runs on the store's one thread. The engine lets go of the interpreter while it works, except
    while it flushes (70 to 170 ms): so it never flushes before `close`, its write-ahead log is what makes an
    update durable.
    """

    def __init__(self, folder: Path, lock: IO[str], scratch: "tempfile.TemporaryDirectory[str] | None") -> None:
        self._folder = folder
        self._lock = lock
        self._scratch = scratch
        self._shards: dict[Namespace, _Shard] = {}
        self._records: LRUCache[tuple[Namespace, PointId], _Record] = LRUCache(RECORDS)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vectors")

    @classmethod
    def open(cls, folder: Path | None) -> "EdgeVectors":
        """Takes the folder's lock; None keeps the index in a temporary folder that goes with `close`.

        Folders of the first release, one an embedder, are removed: `Repairs.reconcile` makes what they held again.
        Raises ConfigError where the folder cannot be written, or another process has it open.
        """
        scratch = tempfile.TemporaryDirectory(prefix="trellis-vectors-") if folder is None else None
        root = Path(scratch.name) if scratch else folder
        assert root is not None
        lock = _lock(root)
        for old in filter(_FIRST_LAYOUT.search, map(str, root.iterdir())):
            shutil.rmtree(old, ignore_errors=True)
        return cls(root, lock, scratch)

    async def ensure(self, namespace: Namespace, dimension: int) -> None:
        await self._run(self._ensure, namespace, dimension)

    async def upsert(self, namespace: Namespace, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        if vectors.ndim != 2 or len(vectors) != len(chunks):
            raise ValueError(f"{len(chunks)} chunks, but vectors of shape {vectors.shape}")
        for start in range(0, len(chunks), BATCH):
            part = slice(start, start + BATCH)
            await self._run(self._upsert, namespace, chunks[part], vectors[part])

    async def delete(self, namespace: Namespace, document_ids: Sequence[str]) -> None:
        await self._run(self._delete, namespace, "document_id", list(document_ids))

    async def delete_chunks(self, namespace: Namespace, chunk_ids: Sequence[str]) -> None:
        if chunk_ids:
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
        document_ids: Sequence[str] = (),
    ) -> list[Hit]:
        held = _held(tags, document_ids)
        return await self._run(self._search, namespace, vectors, text, limit, dense_weight, held)

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
            with spans.vectors(work.__name__.lstrip("_")):
                return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **kwargs))
        except (TrellisError, OSError, ValueError):
            raise
        except Exception as error:  # the engine raises bare Exception
            raise Unavailable(f"The vector index could not do this: {error}", retry_after=1) from error

    # Everything below runs on the store's thread.

    def _path(self, namespace: Namespace, dimension: int) -> Path:
        return self._folder / f"{digest_of(namespace)}-{dimension}"

    def _stored(self, namespace: Namespace) -> dict[int, Path]:
        """The namespace's folders by dimension: one, but for a change of it that a crash interrupted."""
        found = (_SHARD.fullmatch(path.name) for path in self._folder.glob(f"{digest_of(namespace)}-*"))
        return {int(match[1]): self._folder / match[0] for match in found if match}

    def _existing(self, namespace: Namespace) -> "edge.EdgeShard | None":
        known = self._shards.get(namespace)
        if known is None:
            for dimension, path in self._stored(namespace).items():
                known = self._shards[namespace] = _Shard(_load(path, dimension), dimension)
        return known.engine if known else None

    def _ensure(self, namespace: Namespace, dimension: int) -> None:
        known = self._shards.get(namespace)
        if known is not None and known.dimension == dimension:
            return
        for other in self._stored(namespace).keys() - {dimension}:
            self._drop_shard(namespace, other)
        if namespace not in self._shards:
            self._shards[namespace] = _Shard(_load(self._path(namespace, dimension), dimension), dimension)

    def _upsert(self, namespace: Namespace, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        if self._existing(namespace) is None:
            self._ensure(namespace, vectors.shape[1])
        shard = self._shards[namespace]
        if vectors.shape[1] != shard.dimension:
            raise ValueError(f"vectors of dimension {vectors.shape[1]} for an index of dimension {shard.dimension}")
        points = [
            edge.Point(id=_point_id(chunk.id), vector={DENSE: row.tolist()}, payload=payload_of(chunk))
            for chunk, row in zip(chunks, vectors, strict=True)
        ]
        shard.engine.update(edge.UpdateOperation.upsert_points(points))
        self._forget(namespace)

    def _delete(self, namespace: Namespace, field: str, values: list[str]) -> None:
        shard = self._existing(namespace)
        if shard is None or not values:
            return
        if field == "id":
            shard.update(edge.UpdateOperation.delete_points([_point_id(value) for value in values]))
        else:
            shard.update(edge.UpdateOperation.delete_points_by_filter(_any_of(field, values)))
        self._forget(namespace)

    def _drop(self, namespace: Namespace) -> None:
        for dimension in self._stored(namespace):
            self._drop_shard(namespace, dimension)

    def _drop_shard(self, namespace: Namespace, dimension: int) -> None:
        self._forget(namespace)
        open_one = self._shards.get(namespace)
        if open_one is not None and open_one.dimension == dimension:
            del self._shards[namespace]
            open_one.engine.close()
        shutil.rmtree(self._path(namespace, dimension), ignore_errors=True)

    def _count(self, namespace: Namespace) -> int:
        shard = self._existing(namespace)
        return shard.count(edge.CountRequest(exact=True)) if shard else 0

    def _search(
        self,
        namespace: Namespace,
        vectors: Vectors,
        text: str,
        limit: int,
        dense_weight: float,
        held: "edge.Filter | None",
    ) -> list[Hit]:
        shard = self._existing(namespace)
        if shard is None or limit < 1:
            return []
        wordings = [row for row in vectors if row.any()] if dense_weight > 0 else []
        depth = max(CANDIDATES, 2 * limit)
        found = shard.query_batch(edge.QueryBatchRequest(_queries(wordings, text, depth, held)))
        nearest = best_of(found[: len(wordings)])
        words = {point.id: point.score for point in found[-1]}
        fused = fuse_hybrid(nearest, words, dense_weight, depth)
        best = sorted(fused, key=lambda point: (-fused[point], point))[:limit]
        scale = math.log1p(shard.count(edge.CountRequest(exact=False)))
        return [
            Hit(chunk, fused[point], tuple((vectors @ vector).tolist()), words.get(point, 0.0) / scale, vector)
            for point, (chunk, vector) in zip(best, self._fetch(namespace, shard, best), strict=True)
        ]

    def _fetch(self, namespace: Namespace, shard: "edge.EdgeShard", points: Sequence[PointId]) -> list[_Record]:
        """The points' chunks and vectors: to turn one of the engine's into Python's costs as much as to find ten."""
        known = self._records
        records = {point: known[namespace, point] for point in points if (namespace, point) in known}
        missing = [point for point in points if point not in records]
        for record in shard.retrieve(missing, True, True) if missing else ():
            fetched = _record(record)
            records[record.id] = known[namespace, record.id] = fetched
        return [records[point] for point in points]

    def _forget(self, namespace: Namespace) -> None:
        for key in [key for key in self._records if key[0] == namespace]:
            del self._records[key]

    def _chunk_ids(self, namespace: Namespace, document_id: str | None) -> Mapping[str, frozenset[str]]:
        shard = self._existing(namespace)
        found: dict[str, set[str]] = {}
        held = _any_of("document_id", [document_id]) if document_id else None
        for payload in _scroll(shard, held) if shard else ():
            found.setdefault(payload["document_id"], set()).add(payload["id"])
        return {document: frozenset(chunks) for document, chunks in found.items()}

    def _close(self) -> None:
        for shard in self._shards.values():
            shard.engine.close()
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


def owner_of(folder: Path) -> int | None:
    """The process that has the index in this folder open; None where nobody has."""
    try:
        with (folder / "lock").open("r", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return int((folder / "lock").read_text(encoding="utf-8"))
    return None


def _load(path: Path, dimension: int) -> "edge.EdgeShard":
    if not path.exists():
        return _create(path, dimension)
    try:
        return edge.EdgeShard.load(str(path))
    except Exception as error:  # the engine raises bare Exception
        if "WouldBlock" in str(error):  # its own lock: open already, not damaged
            raise
        aside = path.with_name(f"{path.name}.damaged-{uuid.uuid4().hex[:8]}")
        path.rename(aside)
        log.error("vector index cannot be read, set aside", folder=str(aside), error=str(error))
        return _create(path, dimension)


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
        stopwords=edge.StopwordsSet(languages={getattr(edge.Language, name) for name in STOPWORDS}),
    )
    indexes: dict[str, Any] = {
        WORDS: words,
        "tags": edge.KeywordIndexParams(),
        "document_id": edge.KeywordIndexParams(),
    }
    for field, schema in indexes.items():
        shard.update(edge.UpdateOperation.create_field_index(field, schema))
    return shard


def _held(tags: Sequence[str], document_ids: Sequence[str]) -> "edge.Filter | None":
    wanted = {"tags": list(tags), "document_id": list(document_ids)}
    held = [_any_of(field, values) for field, values in wanted.items() if values]
    return edge.Filter(must=[*held]) if held else None


def _queries(
    wordings: Sequence[Any], text: str, candidates: int, held: "edge.Filter | None"
) -> list["edge.QueryRequest"]:
    dense = [
        edge.QueryRequest(
            limit=candidates,
            query=edge.Query.Nearest(row.tolist(), using=DENSE),
            filter=held,
            params=edge.SearchParams(exact=True),
        )
        for row in wordings
    ]
    return [*dense, edge.QueryRequest(limit=candidates, query=edge.TextQuery(WORDS, text), filter=held)]


def _point_id(chunk_id: str) -> int:
    """The first half of the hash: a number costs a tenth of a UUID on its way out of the engine, 200 times a search.

    Two of 100,000 chunks of one index share it with a chance of 3 in 10 billion.
    """
    return int(chunk_id.removeprefix("chk_")[:16], 16)


def _record(record: Any) -> _Record:
    return chunk_of(record.payload), np.array(record.vector[DENSE], np.float32)


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
