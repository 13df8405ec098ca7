"""Qdrant's REST API as far as Trellis uses it: the paths, bodies and answers of a server, carried out by local mode.

It stands in for the wire (key, time-outs, errors, what is sent); how a real server ranks, stems and quantizes is not in
it. Text indexes are kept with plain words, the only ones that local mode searches.
"""

import asyncio
import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, TypeAdapter
from qdrant_client import AsyncQdrantClient, models

from tests.support.fakes.qdrant_local import PLAIN_WORDS
from tests.support.fakes.server import FakeVendor, Refused, answer

KEY = "key-of-the-qdrant-fake"


@dataclass
class FakeQdrant(FakeVendor):
    version: str = "1.20.0"
    key: str = KEY
    delay_s: float = 0.0
    trickle_s: float = 0.0
    local: AsyncQdrantClient = field(default_factory=lambda: AsyncQdrantClient(":memory:"))
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    snapshots: dict[str, bytes] = field(default_factory=dict)

    def routes(self) -> Iterable[web.RouteDef]:
        one = "/collections/{name}"
        return [
            web.get("/", self.info),
            web.get("/collections", self.names),
            web.get(one, self.get),
            web.put(one, self.create),
            web.delete(one, self.drop),
            web.put(f"{one}/index", self.index),
            web.put(f"{one}/points", self.upsert),
            web.post(f"{one}/points", self.retrieve),
            web.post(f"{one}/points/delete", self.delete),
            web.post(f"{one}/points/count", self.count_points),
            web.post(f"{one}/points/scroll", self.scroll),
            web.post(f"{one}/points/query/batch", self.query),
            web.post(f"{one}/snapshots", self.take_snapshot),
            web.get(one + "/snapshots/{snapshot}", self.fetch_snapshot),
            web.delete(one + "/snapshots/{snapshot}", self.remove_snapshot),
            web.post(f"{one}/snapshots/upload", self.put_snapshot),
        ]

    async def info(self, request: web.Request) -> web.Response:
        await self._admitted(request)
        return answer({"title": "qdrant - vector search engine", "version": self.version, "commit": "0" * 40})

    async def get(self, request: web.Request) -> web.Response:
        name = await self._collection(request)
        found = (await self.local.get_collection(name)).model_dump(mode="json", exclude_none=True)
        known = {key: {"data_type": schema["type"], "points": 0} for key, schema in self.schemas[name].items()}
        found["config"]["metadata"] = self.made[name].get("metadata")
        return result(found | {"payload_schema": known})

    async def create(self, request: web.Request) -> web.Response:
        name, body = await self._admitted(request), orjson.loads(await request.read())
        if name in self.schemas:
            raise refusal(409, f"Wrong input: Collection `{name}` already exists!")
        await self._make(name, body)
        return result(True)

    async def drop(self, request: web.Request) -> web.Response:
        name = await self._admitted(request)
        return result(self.schemas.pop(name, None) is not None and await self.local.delete_collection(name))

    async def index(self, request: web.Request) -> web.Response:
        name, body = await self._collection(request), models.CreateFieldIndex.model_validate(await request.json())
        schema: Any = body.field_schema
        self.schemas[name][body.field_name] = schema.model_dump(mode="json", exclude_none=True)
        if isinstance(schema, models.TextIndexParams):
            await self.local.create_payload_index(name, body.field_name, PLAIN_WORDS)
        return updated()

    async def upsert(self, request: web.Request) -> web.Response:
        name, body = await self._collection(request), models.PointsList.model_validate(await request.json())
        try:
            await self.local.upsert(name, body.points)
        except ValueError as error:
            raise refusal(400, f"Wrong input: {error}") from error
        return updated()

    async def retrieve(self, request: web.Request) -> web.Response:
        name, body = await self._collection(request), models.PointRequest.model_validate(await request.json())
        vectors: Any = body.with_vector
        return result(plain(await self.local.retrieve(name, body.ids, with_payload=True, with_vectors=vectors)))

    async def delete(self, request: web.Request) -> web.Response:
        name = await self._collection(request)
        selector: Any = TypeAdapter(models.PointsSelector).validate_python(await request.json())
        await self.local.delete(name, selector)
        return updated()

    async def count_points(self, request: web.Request) -> web.Response:
        name = await self._collection(request)
        return result(plain(await self.local.count(name)))

    async def scroll(self, request: web.Request) -> web.Response:
        name, body = await self._collection(request), models.ScrollRequest.model_validate(await request.json())
        wanted: Any = body.with_payload
        points, following = await self.local.scroll(
            name, body.filter, limit=body.limit or 10, offset=body.offset, with_payload=wanted
        )
        return result({"points": plain(points), "next_page_offset": following})

    async def query(self, request: web.Request) -> web.Response:
        name, body = await self._collection(request), models.QueryRequestBatch.model_validate(await request.json())
        return result(plain(await self.local.query_batch_points(name, body.searches)))

    async def names(self, request: web.Request) -> web.Response:
        await self._admitted(request)
        return result({"collections": [{"name": name} for name in self.schemas]})

    async def take_snapshot(self, request: web.Request) -> web.Response:
        name = await self._collection(request)
        points, _ = await self.local.scroll(name, limit=100_000, with_payload=True, with_vectors=True)
        content = orjson.dumps({"made": self.made[name], "schemas": self.schemas[name], "points": plain(points)})
        snapshot = f"{name}-1-2026-01-01-00-00-00.snapshot"
        self.snapshots[snapshot] = content
        sha256 = hashlib.sha256(content).hexdigest()
        return result({"name": snapshot, "creation_time": None, "size": len(content), "checksum": sha256})

    async def fetch_snapshot(self, request: web.Request) -> web.Response:
        await self._collection(request)
        return answer(self.snapshots[request.match_info["snapshot"]])

    async def remove_snapshot(self, request: web.Request) -> web.Response:
        await self._collection(request)
        return result(self.snapshots.pop(request.match_info["snapshot"], None) is not None)

    async def put_snapshot(self, request: web.Request) -> web.Response:
        name, content = await self._admitted(request), _uploaded(request.headers["Content-Type"], await request.read())
        if hashlib.sha256(content).hexdigest() != request.query["checksum"]:
            raise refusal(400, "Wrong input: Snapshot checksum mismatch")
        found = orjson.loads(content)
        if name in self.schemas:
            await self.local.delete_collection(name)
        await self._make(name, found["made"])
        self.schemas[name] = found["schemas"]
        await self.local.create_payload_index(name, "words", PLAIN_WORDS)
        await self.local.upsert(name, [models.PointStruct(**fields) for fields in map(_point, found["points"])])
        return result(True)

    async def _make(self, name: str, body: dict[str, Any]) -> None:
        wanted = models.CreateCollection.model_validate(body)
        await self.local.create_collection(name, vectors_config=wanted.vectors)
        self.schemas[name], self.made[name] = {}, body

    async def deliver(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        """With `trickle_s`, byte by byte, so long apart."""
        if not self.trickle_s or not isinstance(response, web.Response):
            return response
        assert isinstance(response.body, bytes)
        slow = web.StreamResponse(headers={"Content-Type": "application/json"})
        await slow.prepare(request)
        with suppress(ConnectionError):
            for byte in response.body:
                await slow.write(bytes([byte]))
                await asyncio.sleep(self.trickle_s)
        return slow

    async def forget(self) -> None:
        """Loses every collection."""
        for name in list(self.schemas):
            await self.local.delete_collection(name)
        self.schemas.clear()

    async def _admitted(self, request: web.Request) -> str:
        await asyncio.sleep(self.delay_s)
        if request.headers.get("api-key") != self.key:
            raise Refused(401, b"Must provide an API key or an Authorization bearer token")
        return request.match_info.get("name", "")

    async def _collection(self, request: web.Request) -> str:
        name = await self._admitted(request)
        if name not in self.schemas:
            raise refusal(404, f"Not found: Collection `{name}` doesn't exist!")
        return name


def _uploaded(kind: str, body: bytes) -> Any:
    """The file of a form that has been read already."""
    message = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    (part,) = message.get_payload()
    return part.get_payload(decode=True)  # type: ignore[union-attr]


def _point(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("id", "vector", "payload")}


def refusal(status: int, said: str) -> Refused:
    return Refused(status, {"status": {"error": said}, "time": 0.0001})


def result(found: Any) -> web.Response:
    return answer({"result": found, "status": "ok", "time": 0.0001})


def updated() -> web.Response:
    return result({"operation_id": 1, "status": "completed"})


def plain(found: BaseModel | Iterable[BaseModel]) -> Any:
    if isinstance(found, BaseModel):
        return found.model_dump(mode="json", exclude_none=True)
    return [one.model_dump(mode="json", exclude_none=True) for one in found]
