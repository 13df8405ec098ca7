"""The vector store on a Qdrant server: one collection a namespace.

What copies, acknowledgement, consistency and time-outs were chosen, and why: docs/decisions/0032-qdrant-server.md.
"""

import asyncio
import math
import re
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import numpy as np
from qdrant_client import AsyncQdrantClient, models

from app.cache.known import Known
from app.errors import ConfigError, Unavailable
from app.knowledge.base import Chunk, Hit, Namespace, Vectors
from app.knowledge.points import (
    CANDIDATES,
    COLLECTIONS,
    DENSE,
    STOPWORDS,
    WORDS,
    best_of,
    chunk_of,
    digest_of,
    payload_of,
    point_id,
)
from app.knowledge.qdrant_errors import answered
from app.knowledge.ranking import fuse_hybrid
from app.knowledge.refusals import KeyRefused, NoCollection

Result = TypeVar("Result")

BATCH = 256
PAGE = 1_000
# How long words may be weighed by the number of chunks that another process has changed since.
SIZE_S = 10.0
# Of one process, over REST. Left alone the client keeps none of them on loopback. Kept for less than the five seconds
# after which the server closes one that is idle: a request on it would have no answer.
CONNECTIONS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=3.0)
# The first that ranks by BM25 over a text index.
OLDEST = (1, 20)
M, EF_CONSTRUCT = 16, 200
FULL_SCAN_KB = 10_000
SEGMENTS = 2
OVERSAMPLING = 2.0
# As the embedded engine cuts texts into words.
ANALYSIS = models.TextIndexParams(
    type=models.TextIndexType.TEXT,
    scoring=True,
    ascii_folding=True,
    stemmer=models.SnowballParams(type=models.Snowball.SNOWBALL, language=models.SnowballLanguage.ENGLISH),
    stopwords=models.StopwordsSet(languages=[models.Language(name.lower()) for name in STOPWORDS]),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How collections are made.

    Args:
        replicas: copies of each collection in a cluster.
        write_replicas: how many of them must have a write before it counts as done; None: more than half.
        shards: parts of each collection, which spread over the nodes; None: as many as the server thinks right.
        int8: vectors also kept in a byte a number, searched first, and rescored from the whole ones.
        analysis: how texts are cut into words.
    """

    replicas: int = 1
    write_replicas: int | None = None
    shards: int | None = None
    int8: bool = False
    analysis: models.TextIndexParams = field(default_factory=lambda: ANALYSIS)

    @property
    def acknowledged(self) -> int:
        return self.write_replicas or self.replicas // 2 + 1

    @property
    def ordering(self) -> models.WriteOrdering | None:
        """With copies: one of them orders the writes, or two at once may leave two copies different."""
        return models.WriteOrdering.MEDIUM if self.replicas > 1 else None

    @property
    def agreed(self) -> models.ReadConsistencyType | None:
        """With copies: for reads that decide what is written or deleted, what more than half of them say."""
        return models.ReadConsistencyType.MAJORITY if self.replicas > 1 else None


class QdrantVectors:
    """`VectorStore` over a Qdrant server.

    A namespace is a collection of its own: tenants share no index and no word statistics, a generation of another
    dimension needs nothing special, and dropping one is one call. See docs/decisions/0010-index-generations.md for
    where that ends.
    """

    def __init__(self, client: AsyncQdrantClient, shape: Shape | None = None, timeout_s: float = 5.0) -> None:
        self._client = client
        self._shape = shape or Shape()
        self._timeout_s = timeout_s
        self._server_timeout_s = math.ceil(timeout_s)
        self._dimensions: dict[Namespace, int] = {}
        self._sizes: Known[Namespace, int] = Known(self._about, ttl_s=SIZE_S)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 5.0,
        grpc_port: int | None = None,
        shape: Shape | None = None,
    ) -> "QdrantVectors":
        """Connects and looks at the server's version.

        Args:
            timeout_s: for one call, on both sides of the wire; at least 1.
            grpc_port: where given, points are sent and asked for by gRPC on that port of the same host.

        Raises Unavailable where nothing answers there, ConfigError for a refused key or a server that is too old.
        """
        client = AsyncQdrantClient(
            url=url,
            port=None,
            api_key=key,
            timeout=math.ceil(timeout_s),
            check_compatibility=False,
            limits=CONNECTIONS,
            prefer_grpc=grpc_port is not None,
            grpc_port=grpc_port or 0,
        )
        store = cls(client, shape, timeout_s)
        try:
            await store._check_version()
        except BaseException:
            await store.close()
            raise
        return store

    async def ensure(self, namespace: Namespace, dimension: int) -> None:
        found = await self._info(namespace)
        if found is not None and _dimension(found) != dimension:
            await self.drop(namespace)
            found = None
        if found is None:
            await self._create(namespace, dimension)
        await self._index_fields(namespace, found.payload_schema if found else {})
        self._dimensions[namespace] = dimension

    async def upsert(self, namespace: Namespace, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        if vectors.ndim != 2 or len(vectors) != len(chunks):
            raise ValueError(f"{len(chunks)} chunks, but vectors of shape {vectors.shape}")
        await self._fit(namespace, vectors.shape[1])
        try:
            await self._put(namespace, chunks, vectors)
        except NoCollection:
            # Dropped by another process, or lost, since it was last looked at.
            await self.ensure(namespace, vectors.shape[1])
            await self._put(namespace, chunks, vectors)

    async def delete(self, namespace: Namespace, document_ids: Sequence[str]) -> None:
        if document_ids:
            await self._delete(namespace, models.FilterSelector(filter=_held((), document_ids)))

    async def delete_chunks(self, namespace: Namespace, chunk_ids: Sequence[str]) -> None:
        if chunk_ids:
            await self._delete(namespace, models.PointIdsList(points=[point_id(chunk) for chunk in chunk_ids]))

    async def drop(self, namespace: Namespace) -> None:
        self._dimensions.pop(namespace, None)
        self._sizes.forget(namespace)
        await self._or_none(self._client.delete_collection(_name(namespace)))

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
        if limit < 1:
            return []
        wordings = [row for row in vectors if row.any()] if dense_weight > 0 else []
        depth = max(CANDIDATES, 2 * limit)
        requests = self._queries(wordings, text, depth, _held(tags, document_ids))
        self._sizes.warm(namespace)
        found = await self._or_none(
            self._client.query_batch_points(_name(namespace), requests, timeout=self._server_timeout_s)
        )
        if not found:
            return []
        nearest = best_of([ranking.points for ranking in found[: len(wordings)]])
        words = {point.id: point.score for point in found[len(wordings)].points} if text.strip() else {}
        fused = fuse_hybrid(nearest, words, dense_weight, depth)
        best = sorted(fused, key=lambda point: (-fused[point], point))[:limit]
        if not best:
            return []
        size, records = await asyncio.gather(self._sizes.get(namespace), self._fetch(namespace, best))
        scale = math.log1p(max(size, len(best)))
        return [
            Hit(chunk, fused[point], tuple((vectors @ vector).tolist()), words.get(point, 0.0) / scale, vector)
            for point, (chunk, vector) in records.items()
        ]

    async def chunk_ids(self, namespace: Namespace, document_id: str | None = None) -> Mapping[str, frozenset[str]]:
        held, offset = _held((), [document_id] if document_id else ()), None
        found: dict[str, set[str]] = {}
        while True:
            page = await self._or_none(
                self._client.scroll(
                    _name(namespace),
                    held,
                    limit=PAGE,
                    offset=offset,
                    with_payload=["document_id", "id"],
                    consistency=self._shape.agreed,
                    timeout=self._server_timeout_s,
                )
            )
            records, offset = page or ([], None)
            for record in records:
                payload = record.payload or {}
                found.setdefault(payload["document_id"], set()).add(payload["id"])
            if offset is None:
                return {document: frozenset(ids) for document, ids in found.items()}

    async def count(self, namespace: Namespace) -> int:
        return await self._count(namespace, exact=True)

    async def close(self) -> None:
        await self._client.close()

    async def _check_version(self) -> None:
        try:
            async with answered(self._timeout_s, "info"):
                version = (await self._client.info()).version
        except KeyRefused as error:
            raise ConfigError(error.detail) from error
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if numbers < OLDEST:
            raise ConfigError(
                f"The Qdrant server at TRELLIS_VECTORS_URL is {version}: at least {OLDEST[0]}.{OLDEST[1]} is needed."
            )

    async def _fit(self, namespace: Namespace, dimension: int) -> None:
        """Makes the collection where it is missing. Raises ValueError for one of another dimension."""
        known = self._dimensions.get(namespace)
        if known is None:
            found = await self._info(namespace)
            if found is None:
                return await self.ensure(namespace, dimension)
            known = self._dimensions[namespace] = _dimension(found)
        if known != dimension:
            raise ValueError(f"vectors of dimension {dimension} for an index of dimension {known}")
        return None

    async def _info(self, namespace: Namespace) -> models.CollectionInfo | None:
        return await self._or_none(self._client.get_collection(_name(namespace)))

    async def _create(self, namespace: Namespace, dimension: int) -> None:
        shape = self._shape
        int8 = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        try:
            async with answered(self._timeout_s, "create_collection"):
                await self._client.create_collection(
                    _name(namespace),
                    vectors_config={DENSE: models.VectorParams(size=dimension, distance=models.Distance.COSINE)},
                    hnsw_config=models.HnswConfigDiff(m=M, ef_construct=EF_CONSTRUCT, full_scan_threshold=FULL_SCAN_KB),
                    optimizers_config=models.OptimizersConfigDiff(default_segment_number=SEGMENTS),
                    quantization_config=models.ScalarQuantization(scalar=int8) if shape.int8 else None,
                    replication_factor=shape.replicas,
                    write_consistency_factor=shape.acknowledged,
                    shard_number=shape.shards,
                    metadata=namespace._asdict(),
                )
        except Unavailable:
            # Another process may have made it in the same moment.
            if await self._info(namespace) is None:
                raise

    async def _index_fields(self, namespace: Namespace, known: Mapping[str, Any]) -> None:
        keyword = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)
        fields: dict[str, models.TextIndexParams | models.KeywordIndexParams] = {
            WORDS: self._shape.analysis,
            "tags": keyword,
            "document_id": keyword,
        }
        for name, schema in fields.items():
            if name not in known:
                async with answered(self._timeout_s, "create_payload_index"):
                    await self._client.create_payload_index(_name(namespace), name, schema, wait=True)

    def _queries(
        self, wordings: Sequence[Any], text: str, depth: int, held: models.Filter | None
    ) -> list[models.QueryRequest]:
        rescored = models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
        params = models.SearchParams(quantization=rescored) if self._shape.int8 else None
        dense = [
            models.QueryRequest(
                query=models.NearestQuery(nearest=row.tolist()), using=DENSE, limit=depth, filter=held, params=params
            )
            for row in wordings
        ]
        if not text.strip():
            return dense
        words = models.QueryRequest(query=models.TextQuery(text=text), using=WORDS, limit=depth, filter=held)
        return [*dense, words]

    async def _put(self, namespace: Namespace, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        for start in range(0, len(chunks), BATCH):
            points = [
                models.PointStruct(id=point_id(chunk.id), vector={DENSE: row.tolist()}, payload=payload_of(chunk))
                for chunk, row in zip(chunks[start : start + BATCH], vectors[start : start + BATCH], strict=True)
            ]
            async with answered(self._timeout_s, "upsert"):
                await self._client.upsert(
                    _name(namespace),
                    points,
                    wait=True,
                    ordering=self._shape.ordering,
                    timeout=self._server_timeout_s,
                )
        self._sizes.forget(namespace)

    async def _fetch(self, namespace: Namespace, points: Sequence[Any]) -> dict[Any, tuple[Chunk, Vectors]]:
        """In the order asked for; one that was deleted since is left out."""
        found = await self._or_none(
            self._client.retrieve(
                _name(namespace),
                list(points),
                with_payload=True,
                with_vectors=[DENSE],
                timeout=self._server_timeout_s,
            )
        )
        records: dict[Any, Any] = {record.id: record for record in found or ()}
        return {
            point: (chunk_of(records[point].payload), np.array(records[point].vector[DENSE], np.float32))
            for point in points
            if point in records
        }

    async def _delete(self, namespace: Namespace, selector: models.FilterSelector | models.PointIdsList) -> None:
        await self._or_none(
            self._client.delete(
                _name(namespace),
                selector,
                wait=True,
                ordering=self._shape.ordering,
                timeout=self._server_timeout_s,
            )
        )
        self._sizes.forget(namespace)

    async def _count(self, namespace: Namespace, *, exact: bool) -> int:
        found = await self._or_none(self._client.count(_name(namespace), exact=exact, timeout=self._server_timeout_s))
        return found.count if found else 0

    async def _about(self, namespace: Namespace) -> int:
        return await self._count(namespace, exact=False)

    async def _or_none(self, call: Awaitable[Result]) -> Result | None:
        """The answer; None where the collection does not exist, for such a namespace is empty."""
        try:
            async with answered(self._timeout_s, getattr(call, "__name__", "call")):
                return await call
        except NoCollection:
            return None


def _name(namespace: Namespace) -> str:
    return COLLECTIONS + digest_of(namespace)


def _dimension(found: models.CollectionInfo) -> int:
    vectors: Any = found.config.params.vectors
    return int(vectors[DENSE].size)


def _held(tags: Sequence[str], document_ids: Sequence[str]) -> models.Filter | None:
    wanted = {"tags": tags, "document_id": document_ids}
    must: list[models.Condition] = [
        models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))
        for key, values in wanted.items()
        if values
    ]
    return models.Filter(must=must) if must else None
