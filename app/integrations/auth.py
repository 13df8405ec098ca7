"""Bearer tokens: one that was given, or one that is fetched once for all callers and kept until it expires."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from app.clock import Clock

_EARLY = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Grant:
    """A token (empty: none is sent), where it is valid if the vendor said so, and until when if it said so."""

    token: str = field(repr=False)
    base_url: str | None = None
    expires_at: datetime | None = None


class Auth(Protocol):
    renewable: bool

    async def grant(self) -> Grant: ...

    def drop(self, grant: Grant) -> None:
        """The vendor no longer takes this grant."""
        ...


class FixedToken:
    """A token from the settings; the empty one stands for a request without credentials."""

    renewable = False

    def __init__(self, token: str) -> None:
        self._grant = Grant(token)

    async def grant(self) -> Grant:
        return self._grant

    def drop(self, grant: Grant) -> None:
        """Nothing can replace it."""


class FetchedToken:
    """Calls `fetch` when there is no token, a minute before it expires, and after it was dropped."""

    renewable = True

    def __init__(self, fetch: Callable[[], Awaitable[Grant]], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._grant: Grant | None = None
        self._fetching = asyncio.Lock()

    async def grant(self) -> Grant:
        async with self._fetching:
            if self._grant is None or self._expires_soon(self._grant):
                self._grant = await self._fetch()
            return self._grant

    def _expires_soon(self, grant: Grant) -> bool:
        return grant.expires_at is not None and grant.expires_at - _EARLY <= self._clock()

    def drop(self, grant: Grant) -> None:
        # Another caller may have fetched a new one since: that one stays.
        if self._grant is grant:
            self._grant = None
