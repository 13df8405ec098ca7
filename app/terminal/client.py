"""One user's talk with one bot over the API: signs in, asks, goes on with a stream that broke."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson

from app.administration.rest import Refused, Rest, sentence
from app.errors import ConfigError, Unavailable

CLAIMS: Final = "claims"
RESUMES: Final = 5
RESUME_AFTER_S: Final = 0.5
SILENCE_S: Final = 60.0
"""The server sends a sign of life four times as often."""
_TOKEN_S: Final = 900
_RENEW_S: Final = 60
_BROKEN: Final = (aiohttp.ClientError, TimeoutError, ConnectionError)


@dataclass(frozen=True, slots=True)
class Sent:
    """One event of a stream."""

    id: str
    name: str
    data: dict[str, Any]


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

        A connection that breaks is taken up again behind the last event that came.
        Raises Refused with the server's own sentence, ConfigError where nothing answers, Unavailable where a stream
        broke and cannot be taken up again.
        """
        last: Sent | None = None
        resume = ""
        for attempt in range(1 + RESUMES):
            try:
                async with aclosing(self._events(question, resume, last)) as events:
                    async for last in events:
                        resume = last.data["resume"] if last.name == "start" else resume
                        yield last
                if last is not None and last.name in ("done", "error"):
                    return
            except _BROKEN as error:
                if last is None:
                    raise ConfigError(f"Nothing answers at {self._address} ({type(error).__name__}).") from error
            await asyncio.sleep(RESUME_AFTER_S * (attempt + 1))
        raise Unavailable("The connection broke and could not be taken up again: ask again.", retry_after=1)

    async def forget(self) -> None:
        """The bot forgets what was said with the user. Raises Refused, ConfigError."""
        try:
            async with self._session.delete(
                self._address + self._place.memory, headers=await self._headers()
            ) as answer:
                await _checked(answer)
        except _BROKEN as error:
            raise ConfigError(f"Nothing answers at {self._address} ({type(error).__name__}).") from error

    async def _events(self, question: str, resume: str, last: Sent | None) -> AsyncGenerator[Sent, None]:
        headers = {**await self._headers(), "Accept": "text/event-stream"}
        if last is None:
            asking = self._session.post(
                self._address + self._place.chat, json={"message": question, "stream": True}, headers=headers
            )
        else:
            asking = self._session.get(self._address + resume, headers={**headers, "Last-Event-ID": last.id})
        async with asking as answer:
            await _checked(answer)
            rest = b""
            async for chunk in answer.content.iter_any():
                *blocks, rest = (rest + chunk).split(b"\n\n")
                for event in filter(None, map(_event, blocks)):
                    yield event

    async def _headers(self) -> dict[str, str]:
        # By the clock on the wall: a token ends while this machine sleeps.
        if time.time() >= self._renew_at:
            issued = await self._rest.post(f"/v1/users/{quote(self._user, safe='')}/token", {"ttl_s": _TOKEN_S})
            self._token, self._renew_at = issued["token"], time.time() + _TOKEN_S - _RENEW_S
        return {"Authorization": f"Bearer {self._token}"}


def _event(block: bytes) -> Sent | None:
    """None for a block without an event: a sign of life, or the time to wait."""
    fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line and not line.startswith(b":"))
    if b"event" not in fields:
        return None
    return Sent(fields[b"id"].decode(), fields[b"event"].decode(), orjson.loads(fields[b"data"]))


async def _checked(answer: aiohttp.ClientResponse) -> None:
    if answer.status >= 300:
        raise Refused(sentence(answer.status, await answer.read()))
