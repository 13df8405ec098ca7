"""Snapshots of what a Qdrant server's nodes hold of our indexes: taken, fetched into a folder, put back.

A snapshot has what one node has of one collection, so each node of a cluster is asked for its own, under its own
address. A folder of snapshots is whole once it has its list: `list.json`, written last.
"""

import asyncio
import hashlib
import re
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from app.clock import Clock
from app.errors import InvalidInput, Unavailable
from app.knowledge.points import COLLECTIONS
from app.knowledge.refusals import refused

LIST: Final = "list.json"
STAMP: Final = "%Y%m%dT%H%M%SZ"
TIMEOUT_S: Final = 3600.0
_STAMPED = re.compile(r"\d{8}T\d{6}Z")
_PIECE: Final = 1 << 20

Told = Callable[[str], None]
"""Hears what is being done, in a few words."""


@dataclass(frozen=True, slots=True)
class Saved:
    """One node's part of one collection: `points` are those of the whole collection, `sha256` is the file's."""

    node: int
    collection: str
    namespace: dict[str, Any]
    points: int
    size: int
    sha256: str

    @property
    def file(self) -> str:
        return _file(self.collection, self.node)


@dataclass(frozen=True, slots=True)
class Restored:
    """A collection after it was put back: `expected` points were in it when the snapshot was taken."""

    collection: str
    namespace: dict[str, Any]
    expected: int
    found: int

    @property
    def whole(self) -> bool:
        return self.found == self.expected


class Node:
    """One node's REST interface, as far as snapshots go. Everything raises Unavailable where it does not answer."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str | None) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._headers = {"api-key": key} if key else {}

    async def collections(self) -> list[str]:
        """The names of ours, sorted."""
        found = await self._result("GET", "/collections")
        return sorted(one["name"] for one in found["collections"] if one["name"].startswith(COLLECTIONS))

    async def namespace(self, collection: str) -> dict[str, Any]:
        found = await self._result("GET", f"/collections/{collection}")
        return dict(found["config"].get("metadata") or {})

    async def points(self, collection: str) -> int:
        found = await self._result("POST", f"/collections/{collection}/points/count", json={"exact": True})
        return int(found["count"])

    async def take(self, collection: str, target: Path) -> str:
        """Takes a snapshot, fetches it into the file and removes it from the node's disk; the file's SHA-256."""
        made = await self._result("POST", f"/collections/{collection}/snapshots", params={"wait": "true"})
        path = f"/collections/{collection}/snapshots/{made['name']}"
        try:
            digest = await self._fetch(path, target)
        finally:
            await self._result("DELETE", path, params={"wait": "true"})
        if made.get("checksum") not in (None, digest):
            raise Unavailable(f"The snapshot of {collection} did not arrive whole: try again.", retry_after=1)
        return digest

    async def put_back(self, collection: str, source: Path, sha256: str) -> None:
        """Puts the file in the place of all that the node has of the collection, for the other nodes to follow."""
        wanted = {"wait": "true", "priority": "snapshot", "checksum": sha256}
        with source.open("rb") as file:
            form = aiohttp.FormData()
            form.add_field("snapshot", file, filename=source.name, content_type="application/octet-stream")
            await self._result("POST", f"/collections/{collection}/snapshots/upload", params=wanted, data=form)

    async def _fetch(self, path: str, target: Path) -> str:
        digest = hashlib.sha256()
        async with self._answered("GET", path) as response:
            with target.open("wb") as file:
                async for piece in response.content.iter_chunked(_PIECE):
                    digest.update(piece)
                    await asyncio.to_thread(file.write, piece)
        return digest.hexdigest()

    async def _result(self, method: str, path: str, **how: Any) -> Any:
        async with self._answered(method, path, **how) as response:
            return orjson.loads(await response.read())["result"]

    @asynccontextmanager
    async def _answered(self, method: str, path: str, **how: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=10)
        call = self._session.request(method, self._url + path, headers=self._headers, timeout=timeout, **how)
        try:
            async with call as response:
                if response.status != 200:
                    raise refused(response.status)
                yield response
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError) as error:
            raise refused(0) from error


async def take_all(nodes: Sequence[Node], folder: Path, clock: Clock, told: Told = lambda _what: None) -> Path:
    """Snapshots of every index from every node, in a new folder named after the time. Raises Unavailable."""
    whole = folder / clock().strftime(STAMP)
    part = folder / f"{whole.name}.part"
    part.mkdir(parents=True)
    try:
        saved = [one for number, node in enumerate(nodes) for one in await _take(node, number, part, told)]
        (part / LIST).write_bytes(orjson.dumps([asdict(one) for one in saved], option=orjson.OPT_INDENT_2))
        part.rename(whole)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return whole


async def _take(node: Node, number: int, folder: Path, told: Told) -> list[Saved]:
    saved = []
    for collection in await node.collections():
        told(f"node {number + 1}: {collection}")
        namespace, points = await node.namespace(collection), await node.points(collection)
        file = folder / _file(collection, number)
        digest = await node.take(collection, file)
        saved.append(Saved(number, collection, namespace, points, file.stat().st_size, digest))
    return saved


def _file(collection: str, node: int) -> str:
    return f"{collection}.{node}.snapshot"


def taken(folder: Path) -> list[Path]:
    """The whole folders of snapshots in the folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(one for one in folder.iterdir() if _STAMPED.fullmatch(one.name) and (one / LIST).is_file())


def keep(folder: Path, number: int) -> list[Path]:
    """Removes all but the latest; what was removed."""
    old = taken(folder)[:-number]
    for one in old:
        shutil.rmtree(one)
    return old


def listed(folder: Path) -> list[Saved]:
    """What a folder of snapshots holds. Raises InvalidInput for a folder that is none."""
    try:
        return [Saved(**one) for one in orjson.loads((folder / LIST).read_bytes())]
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(f"{folder} is no folder of snapshots: it has no {LIST} that can be read.") from error


async def restore(nodes: Sequence[Node], folder: Path, told: Told = lambda _what: None) -> list[Restored]:
    """Puts every index back as it was; others stay as they are. Every file is checked before the first is sent.

    Raises InvalidInput for damaged files or another number of nodes, Unavailable where a node does not answer.
    """
    saved = listed(folder)
    before = len({one.node for one in saved})
    if saved and len(nodes) != before:
        raise InvalidInput(f"The snapshots are of {before} nodes, each of which needs its own: name as many addresses.")
    for one in saved:
        if await asyncio.to_thread(_digest, folder / one.file) != one.sha256:
            raise InvalidInput(f"{folder / one.file} is missing or damaged: nothing was put back.")
    for one in saved:
        told(f"node {one.node + 1}: {one.collection}")
        await nodes[one.node].put_back(one.collection, folder / one.file, one.sha256)
    return [
        Restored(one.collection, one.namespace, one.points, await nodes[0].points(one.collection))
        for one in saved
        if one.node == 0
    ]


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return ""
