"""One user's talk with one bot over the API: signs in, asks, goes on with a stream that broke."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import aiohttp

from app.administration.events import BROKEN, SILENCE_S, EventSource, Sent, checked
from app.administration.rest import Rest
from app.errors import ConfigError

CLAIMS: Final = "claims"
_TOKEN_S: Final = 900
_RENEW_S: Final = 60


@dataclass(frozen=True, slots=True)
class Place:
    """The addresses of a bot: where it is asked, and where it is told to forget."""

    chat: str
    memory: str

    @classmethod
    def of(cls, bot: str) -> "Place":
        if bot == CLAIMS:
            return cls("/v1/claims/chat", "/v1/claims/memory")
        base = f"/v1/bots/{quote(bot, safe='')}"
        return cls(f"{base}/chat", f"{base}/memory")


class ChatClient:
    """Talks as one user.

    Args:
        rest: with the API key that issues the user's tokens; a token is renewed a minute before it ends.
    """

    def __init__(self, session: aiohttp.ClientSession, rest: Rest, address: str, user: str, bot: str) -> None:
        self._session = session
        self._rest = rest
        self._address = address
        self._user = user
        self._place = Place.of(bot)
        self._token = ""
        self._renew_at = 0.0

    @classmethod
    @asynccontextmanager
    async def open(cls, rest: Rest, address: str, user: str, bot: str) -> AsyncIterator["ChatClient"]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_S)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            yield cls(session, rest, address, user, bot)

    async def ask(self, question: str) -> AsyncGenerator[Sent, None]:
        """The answer's events as they come; the last one is `done` or `error`. Close it to stop the answer.

        Raises as `EventSource.ask`.
        """
        source = EventSource(self._session, self._address, self._headers)
        asked = source.ask(self._place.chat, {"message": question, "stream": True}, ("done", "error"))
        async with aclosing(asked) as events:
            async for event in events:
                yield event

    async def forget(self) -> None:
        """The bot forgets what was said with the user. Raises Refused, ConfigError."""
        try:
            async with self._session.delete(
                self._address + self._place.memory, headers=await self._headers()
            ) as answer:
                await checked(answer)
        except BROKEN as error:
            raise ConfigError(f"Nothing answers at {self._address} ({type(error).__name__}).") from error

    async def _headers(self) -> dict[str, str]:
        # By the clock on the wall: a token ends while this machine sleeps.
        if time.time() >= self._renew_at:
            issued = await self._rest.post(f"/v1/users/{quote(self._user, safe='')}/token", {"ttl_s": _TOKEN_S})
            self._token, self._renew_at = issued["token"], time.time() + _TOKEN_S - _RENEW_S
        return {"Authorization": f"Bearer {self._token}"}
