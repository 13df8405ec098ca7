"""An OpenAI-compatible endpoint of embeddings on loopback: words become numbers by their hash, the same each time."""

import re
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from tests.support.on_loopback import on_loopback

NAME = "stub-embed"
DIMENSION = 64
_WORD = re.compile(r"\w+")


@dataclass
class Embedder:
    """`url` up to `/v1`. `failing`: every request is answered as a provider does whose quota is spent."""

    url: str = ""
    failing: bool = False
    asked: int = 0

    async def embed(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.failing:
            reason = {"message": "You exceeded your current quota.", "code": "insufficient_quota"}
            return web.json_response({"error": reason}, status=429)
        body = await request.json()
        rows = [{"index": place, "embedding": embedded(text)} for place, text in enumerate(body["input"])]
        return web.json_response({"data": rows, "model": body["model"]})

    @property
    def settings(self) -> dict[str, str]:
        """Of the app, as variables."""
        return {
            "TRELLIS_EMBEDDING_URL": self.url,
            "TRELLIS_EMBEDDING_NAME": NAME,
            "TRELLIS_EMBEDDING_DIMENSION": str(DIMENSION),
        }


def embedded(text: str) -> list[float]:
    """How often words fall into each of the vector's places: texts that share words lie near each other."""
    vector = [0.0] * DIMENSION
    for word in _WORD.findall(text.lower()):
        vector[zlib.crc32(word.encode()) % DIMENSION] += 1.0
    return vector


@asynccontextmanager
async def embedding() -> AsyncIterator[Embedder]:
    """One that answers, on a free port."""
    embedder, app = Embedder(), web.Application()
    app.router.add_post("/v1/embeddings", embedder.embed)
    async with on_loopback(app) as address:
        embedder.url = f"{address}/v1"
        yield embedder
