"""The embedded engine in the place of qdrant-client's local mode: what the fake's wire carries is answered by an engine
that ranks, stems and scans as Qdrant does, and takes a hundred thousand points."""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import qdrant_edge as edge
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.models import QueryResponse

from app.knowledge.edge import _create, _held
from app.knowledge.points import DENSE, WORDS

Result = TypeVar("Result")


class EmbeddedPoints:
    """The calls of `AsyncQdrantClient` that the fake makes; on one thread, for the engine has one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shapes = AsyncQdrantClient(":memory:")
        self._shards: dict[str, edge.EdgeShard] = {}
        self._thread = ThreadPoolExecutor(1)

    async def create_collection(self, name: str, vectors_config: Any) -> bool:
        await self._shapes.create_collection(name, vectors_config=vectors_config)
        self._shards[name] = _create(self._folder / name, vectors_config[DENSE].size)
        return True

    async def delete_collection(self, name: str) -> bool:
        self._shards.pop(name).close()
        shutil.rmtree(self._folder / name)
        return bool(await self._shapes.delete_collection(name))

    async def get_collection(self, name: str) -> models.CollectionInfo:
        return await self._shapes.get_collection(name)

    async def create_payload_index(self, _name: str, _field: str, _schema: Any) -> None:
        """Every field that Trellis asks by has its index from the first."""

    async def upsert(self, name: str, points: Sequence[models.PointStruct]) -> None:
        made: list[Any] = [edge.Point(id=str(one.id), vector=one.vector, payload=one.payload) for one in points]
        await self._run(self._shards[name].update, edge.UpdateOperation.upsert_points(made))

    async def delete(self, name: str, selector: Any) -> None:
        if isinstance(selector, models.PointIdsList):
            change = edge.UpdateOperation.delete_points([str(one) for one in selector.points])
        else:
            change = edge.UpdateOperation.delete_points_by_filter(_filter(selector.filter))
        await self._run(self._shards[name].update, change)

    async def retrieve(self, name: str, ids: Sequence[Any], **_how: Any) -> list[models.Record]:
        found = await self._run(self._shards[name].retrieve, [str(one) for one in ids], True, True)
        return [models.Record(id=str(one.id), payload=one.payload, vector=one.vector) for one in found]

    async def count(self, name: str) -> models.CountResult:
        return models.CountResult(count=await self._run(self._shards[name].count, edge.CountRequest(exact=True)))

    async def scroll(
        self, name: str, held: Any, limit: int, offset: Any, with_payload: Any
    ) -> tuple[list[models.Record], Any]:
        asked = edge.ScrollRequest(
            offset=None if offset is None else str(offset),
            limit=limit,
            filter=_filter(held),
            with_payload=with_payload,
            with_vector=False,
        )
        found, following = await self._run(self._shards[name].scroll, asked)
        records = [models.Record(id=str(one.id), payload=one.payload) for one in found]
        return records, None if following is None else str(following)

    async def query_batch_points(self, name: str, asked: Sequence[models.QueryRequest]) -> list[QueryResponse]:
        batch = edge.QueryBatchRequest([_query(one) for one in asked])
        found = await self._run(self._shards[name].query_batch, batch)
        return [QueryResponse(points=[_scored(point) for point in ranking]) for ranking in found]

    async def _run(self, work: Callable[..., Result], *given: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *given)


def _query(asked: models.QueryRequest) -> "edge.QueryRequest":
    held, limit = _filter(asked.filter), asked.limit or 10
    if isinstance(asked.query, models.TextQuery):
        return edge.QueryRequest(limit=limit, query=edge.TextQuery(WORDS, asked.query.text), filter=held)
    nearest: Any = asked.query
    query = edge.Query.Nearest(nearest.nearest, using=DENSE)
    return edge.QueryRequest(limit=limit, query=query, filter=held, params=edge.SearchParams(exact=True))


def _scored(point: Any) -> models.ScoredPoint:
    return models.ScoredPoint(id=str(point.id), version=0, score=point.score)


def _filter(held: Any) -> Any:
    values = {one.key: one.match.any for one in held.must} if held else {}
    return _held(values.get("tags", ()), values.get("document_id", ()))
