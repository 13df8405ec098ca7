"""Texts to vectors: WordLlama inside the process, or any OpenAI-compatible server."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import aiohttp
import numpy as np
import orjson
import stamina

from app.cache.base import MAX_TTL_S, Entry
from app.cache.flight import SingleFlight
from app.cache.tiered import TieredCache
from app.errors import ConfigError, Unavailable
from app.knowledge.base import Embedder, Vectors
from app.knowledge.word_vectors import DIMENSION, WordVectors
from app.retry_after import parse_retry_after

# 2,000 characters take about 0.6 ms: under that, a thread costs more than it saves.
INLINE_CHARACTERS = 2000


class WordLlamaEmbedder:
    """Static token embeddings pooled to 256 dimensions (WordLlama l2_supercat), weights from the installed package.

    English-centred: see docs/decisions/0003-embedded-vectors.md for what other languages get. Never opens a
    connection. Takes about 0.1 s and 20 MB to load; 50 µs for a short text.
    """

    name = "wordllama-l2-supercat-256"
    dimension = DIMENSION

    def __init__(self) -> None:
        self._model = WordVectors.open()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedder")

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if sum(map(len, texts)) <= INLINE_CHARACTERS:
            return self._embed(texts)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._embed, texts)

    def _embed(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        return unit(self._model.embed(texts))

    async def close(self) -> None:
        self._thread.shutdown(wait=True)


class OpenAiEmbedder:
    """`POST {base_url}/embeddings` of OpenAI, Ollama, vLLM and their like.

    Args:
        base_url: up to and including `/v1`.
        timeout_s: for one request; a request that fails in passing is tried three times in all.
    """

    batch = 64

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        model: str,
        dimension: int,
        api_key: str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self._session = session
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._model = model
        self.name = f"{model}-{dimension}"
        self.dimension = dimension

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Raises ConfigError where the server refuses the model, the key or answers another dimension."""
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        # An empty input is refused by OpenAI's API: its row stays zero, as the protocol says.
        rows = [row for row, text in enumerate(texts) if text.strip()]
        for start in range(0, len(rows), self.batch):
            part = rows[start : start + self.batch]
            vectors[part] = await self._batch([texts[row] for row in part])
        return unit(vectors)

    async def _batch(self, texts: Sequence[str]) -> Vectors:
        async for attempt in stamina.retry_context(on=_backoff, attempts=3, timeout=self._timeout.total):
            with attempt:
                answer = await self._post(texts)
        return self._read(answer, len(texts))

    async def _post(self, texts: Sequence[str]) -> Any:
        body = orjson.dumps({"model": self._model, "input": list(texts), "encoding_format": "float"})
        headers = {**self._headers, "Content-Type": "application/json"}
        try:
            # A redirect would carry the key to another host.
            async with self._session.post(
                self._url, data=body, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                raw = await response.read()
                self._check(response, raw)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"The embedding server at {self._url} does not answer.", retry_after=1) from error
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"{self._url} answered something that is not JSON: check the base URL.") from error

    def _check(self, response: aiohttp.ClientResponse, raw: bytes) -> None:
        if response.status == 429 or response.status >= 500:
            wait = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
            detail = f"The embedding server at {self._url} answered {response.status}."
            raise Unavailable(detail, retry_after=1.0 if wait is None else wait)
        if response.status != 200:
            said = raw[:200].decode("utf-8", "replace")
            raise ConfigError(f"The embedding server refused model '{self._model}' ({response.status}): {said}")

    def _read(self, answer: Any, expected: int) -> Vectors:
        try:
            rows = {int(row["index"]): row["embedding"] for row in answer["data"]}
            vectors = np.array([rows[index] for index in range(expected)], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{self._url} did not answer in the shape of OpenAI's embeddings API.") from error
        if vectors.shape != (expected, self.dimension):
            raise ConfigError(
                f"Model '{self._model}' answers vectors of {vectors.shape[-1]} numbers; the setting for its dimension "
                f"says {self.dimension}."
            )
        return vectors


class CachedEmbedder:
    """Another embedder, asked once a day for each text; texts that are asked for at the same time are sent once."""

    def __init__(self, inner: Embedder, cache: TieredCache) -> None:
        self._inner = inner
        self._cache = cache
        self._flights: SingleFlight[Mapping[str, bytes]] = SingleFlight()
        self.name = inner.name
        self.dimension = inner.dimension

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return await self._inner.embed(texts)
        keys = [self._key(text) for text in texts]
        wanted = dict(zip(keys, texts, strict=True))
        rows = await self._cache.get_many(list(wanted))
        missing = {key: text for key, text in wanted.items() if key not in rows}
        if missing:
            fresh, _shared = await self._flights.run(" ".join(missing), lambda: self._fresh(missing))
            rows.update(fresh)
        packed = bytearray().join(rows[key] for key in keys)
        return np.frombuffer(packed, np.float32).reshape(len(texts), self.dimension)

    async def _fresh(self, missing: Mapping[str, str]) -> Mapping[str, bytes]:
        vectors = await self._inner.embed(list(missing.values()))
        rows = {key: row.tobytes() for key, row in zip(missing, vectors, strict=True)}
        await self._cache.set_many({key: Entry(row, MAX_TTL_S) for key, row in rows.items()})
        return rows

    def _key(self, text: str) -> str:
        return hashlib.sha256(f"{self.name}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()


def _backoff(error: Exception) -> bool | float:
    """How long to wait before the next try: what the server asked for, within reason."""
    return min(error.retry_after, 5.0) if isinstance(error, Unavailable) else False


def unit(vectors: Vectors) -> Vectors:
    """Rows of length 1; a row without a token stays zero (a plain division would make it NaN)."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit
