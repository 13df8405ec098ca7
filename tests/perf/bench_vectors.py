"""Embedded vector engines side by side: Qdrant local mode and Qdrant Edge, hybrid search at three sizes.

    python -m tests.perf.bench_vectors [chunks ...]

Each engine runs in a process of its own, on one thread beside an event loop whose longest pause is watched.
Chunks are 120 words drawn by Zipf's law from 8,000, vectors 256 random numbers; a query is 9 words and a vector.
"""

import asyncio
import importlib
import json
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from app.knowledge.base import Chunk, Namespace, Vectors
from app.knowledge.edge import EdgeVectors

SIZES = (150, 2_000, 20_000)
ENGINES = ("local", "edge")
QUERIES = 100
DIMENSION = 256
SPACE = Namespace("bench", "leads")


def corpus(size: int) -> tuple[list[Chunk], Vectors, list[str], Vectors]:
    draw = random.Random(7)
    words = [f"{draw.choice('bcdfglmnprstv')}{draw.choice('aeiou')}{draw.choice('bcdfgl')}o{n}" for n in range(8000)]
    weights = [1 / (rank + 3) for rank in range(8000)]
    texts = [" ".join(draw.choices(words, weights, k=120)) for _ in range(size)]
    chunks = [Chunk(f"chk_{n:032x}", f"doc_{n}", f"p{n}", "t", "t", 0, text) for n, text in enumerate(texts)]
    queries = [" ".join(draw.choices(words, weights, k=9)) for _ in range(QUERIES)]
    numbers = np.random.default_rng(7)
    vectors, asked = (numbers.normal(size=(rows, DIMENSION)).astype(np.float32) for rows in (size, QUERIES))
    return chunks, vectors, queries, asked


class LocalMode:
    """Qdrant's Python local mode on one thread, dense + BM25 by `TextQuery`, weighted RRF."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.thread = ThreadPoolExecutor(1)
        self.models: Any = importlib.import_module("qdrant_client.models")
        self.client: Any = None

    async def run(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)

    async def fill(self, chunks: list[Chunk], vectors: Vectors) -> None:
        await self.run(self._open)
        for start in range(0, len(chunks), 256):
            await self.run(
                lambda start=start: self._upsert(chunks[start : start + 256], vectors[start : start + 256], start)
            )

    def _open(self) -> None:
        self.client = importlib.import_module("qdrant_client").QdrantClient(path=str(self.folder))
        params = self.models.VectorParams(size=DIMENSION, distance=self.models.Distance.COSINE)
        self.client.create_collection("bench", vectors_config={"dense": params})
        self.client.create_payload_index("bench", "text", self.models.TextIndexParams(type="text", scoring=True))

    def _upsert(self, chunks: list[Chunk], vectors: Vectors, start: int) -> None:
        points = [
            self.models.PointStruct(id=start + n, vector={"dense": vector.tolist()}, payload={"text": chunk.text})
            for n, (chunk, vector) in enumerate(zip(chunks, vectors, strict=True))
        ]
        self.client.upsert("bench", points)

    async def query(self, text: str, vector: Vectors) -> None:
        await self.run(lambda: self._query(text, vector))

    def _query(self, text: str, vector: Vectors) -> None:
        dense = self.models.Prefetch(query=vector.tolist(), using="dense", limit=40)
        words = self.models.Prefetch(query=self.models.TextQuery(text=text), using="text", limit=40)
        fusion = self.models.RrfQuery(rrf=self.models.Rrf(k=60, weights=[0.7, 0.3]))
        self.client.query_points("bench", prefetch=[dense, words], query=fusion, limit=20, with_payload=True)

    async def close(self) -> None:
        await self.run(self.client.close)
        self.thread.shutdown()


class Edge:
    """The store that Trellis uses."""

    def __init__(self, folder: Path) -> None:
        self.store = EdgeVectors.open(folder)

    async def fill(self, chunks: list[Chunk], vectors: Vectors) -> None:
        await self.store.upsert(SPACE, chunks, vectors)

    async def query(self, text: str, vector: Vectors) -> None:
        await self.store.search(SPACE, vector[None], text, 20)

    async def close(self) -> None:
        await self.store.close()


async def watched(work: Awaitable[Any]) -> float:
    """The longest pause of the event loop while `work` runs, in ms over the millisecond that was asked for."""
    pauses = [0.0]

    async def tick() -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.001)
            pauses.append(time.perf_counter() - started - 0.001)

    ticking = asyncio.create_task(tick())
    await work
    ticking.cancel()
    return max(pauses) * 1000


async def measure(name: str, size: int) -> dict[str, float]:
    chunks, vectors, queries, asked = corpus(size)
    with tempfile.TemporaryDirectory() as folder:
        before = resident_mb()
        engine: LocalMode | Edge = LocalMode(Path(folder)) if name == "local" else Edge(Path(folder))
        started = time.perf_counter()
        fill_pause = await watched(engine.fill(chunks, vectors))
        filled = time.perf_counter() - started
        count = QUERIES if size < 5_000 or name == "edge" else 20
        times: list[float] = []

        async def ask() -> None:
            for text, vector in zip(queries[:count], asked[:count], strict=True):
                began = time.perf_counter()
                await engine.query(text, vector)
                times.append((time.perf_counter() - began) * 1000)

        await engine.query(queries[0], asked[0])
        pause = await watched(ask())
        memory = resident_mb() - before
        await engine.close()
    return {
        "p50": float(np.percentile(times, 50)),
        "p99": float(np.percentile(times, 99)),
        "pause": pause,
        "fill": filled,
        "fill_pause": fill_pause,
        "memory": memory,
    }


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main(sizes: list[int]) -> None:
    table = Table(title="embedded engines, hybrid search (ms, s, MB)")
    for column in (
        "chunks",
        "engine",
        "p50 ms",
        "p99 ms",
        "loop pause ms",
        "fill s",
        "pause while filling ms",
        "memory MB",
    ):
        table.add_column(column, justify="right")
    for size in sizes:
        for name in ENGINES:
            command = [sys.executable, "-m", "tests.perf.bench_vectors", "--one", name, str(size)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            got = json.loads(done.stdout)
            cells = (f"{got[key]:.1f}" for key in ("p50", "p99", "pause", "fill", "fill_pause", "memory"))
            table.add_row(f"{size:,}", name, *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    if "--one" in sys.argv:
        warnings.simplefilter("ignore")
        print(json.dumps(asyncio.run(measure(sys.argv[2], int(sys.argv[3])))))
    else:
        main([int(argument) for argument in sys.argv[1:]] or list(SIZES))
