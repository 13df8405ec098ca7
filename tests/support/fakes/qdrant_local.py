"""qdrant-client's local mode in the place of a server: the same calls, answered in this process.

It knows no stems and no stop words, and says ValueError where a server says 404.
"""

import functools
from typing import Any

from httpx import Headers
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from app.knowledge.qdrant import QdrantVectors, Shape

PLAIN_WORDS = models.TextIndexParams(type=models.TextIndexType.TEXT, scoring=True)


class LocalServer:
    """Local mode with a server's errors."""

    def __init__(self) -> None:
        self._client = AsyncQdrantClient(":memory:")

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        @functools.wraps(call)
        async def answered(*args: Any, **kwargs: Any) -> Any:
            try:
                return await call(*args, **kwargs)
            except ValueError as error:
                if "not found" not in str(error):
                    raise
                raise UnexpectedResponse(404, "Not Found", str(error).encode(), Headers()) from error

        return answered


def local_qdrant() -> QdrantVectors:
    client: Any = LocalServer()
    return QdrantVectors(client, Shape(analysis=PLAIN_WORDS))
