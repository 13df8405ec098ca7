"""Server-sent events of the running server, taken up again where the connection breaks."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from app.errors import ConfigError, TrellisError, Unavailable

RESUMES: Final = 5
RESUME_AFTER_S: Final = 0.5
SILENCE_S: Final = 60.0
"""The server sends a sign of life four times as often."""
BROKEN: Final = (aiohttp.ClientError, TimeoutError, ConnectionError)
_ENDED: Final = "The server ended the answer before it began: ask again."
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_S)


class Refused(TrellisError):
    """The server's own sentence."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One event of a stream."""

    id: str
    name: str
    data: dict[str, Any]


class EventSource:
    """Streams of one server.

    Args:
        headers: of each request, with who asks.
    """

    def __init__(
        self, session: aiohttp.ClientSession, address: str, headers: Callable[[], Awaitable[Mapping[str, str]]]
    ) -> None:
        self._session = session
        self._address = address
        self._headers = headers

    async def ask(self, path: str, document: Any, ends: Collection[str]) -> AsyncGenerator[Sent, None]:
        """The events that answer, as they come; the last one's name is among `ends`. Close it to stop the answer.

        A connection that breaks is taken up again behind the last event that came; nothing is asked twice.
        Raises Refused with the server's own sentence, ConfigError where nothing answers, Unavailable where a stream
        broke and cannot be taken up again.
        """
        last: Sent | None = None
        resume = ""
        for attempt in range(1 + RESUMES):
            try:
                async with aclosing(self._events(path, document, resume, last)) as events:
                    async for last in events:
                        resume = last.data["resume"] if last.name == "start" else resume
                        yield last
                if last is None:
                    raise Unavailable(_ENDED, retry_after=1)
                if last.name in ends:
                    return
            except BROKEN as error:
                if last is None:
                    raise ConfigError(
                        f"Nothing answers at {self._address} ({type(error).__name__}): start the server (`make up`), "
                        "or name another one with --url."
                    ) from error
            await asyncio.sleep(RESUME_AFTER_S * (attempt + 1))
        raise Unavailable("The connection broke and could not be taken up again: ask again.", retry_after=1)

    async def _events(self, path: str, document: Any, resume: str, last: Sent | None) -> AsyncGenerator[Sent, None]:
        headers = {**await self._headers(), "Accept": "text/event-stream"}
        address, timeout = self._address, _TIMEOUT
        if last is None:
            asking = self._session.post(address + path, json=document, headers=headers, timeout=timeout)
        else:
            asking = self._session.get(address + resume, headers={**headers, "Last-Event-ID": last.id}, timeout=timeout)
        async with asking as answer:
            await checked(answer)
            rest = b""
            async for chunk in answer.content.iter_any():
                *blocks, rest = (rest + chunk).split(b"\n\n")
                for event in filter(None, map(_event, blocks)):
                    yield event


def _event(block: bytes) -> Sent | None:
    """None for a block without an event: a sign of life, or the time to wait."""
    fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line and not line.startswith(b":"))
    if b"event" not in fields:
        return None
    return Sent(fields[b"id"].decode(), fields[b"event"].decode(), orjson.loads(fields[b"data"]))


async def checked(answer: aiohttp.ClientResponse) -> None:
    """Raises Refused for an answer that is an error."""
    if answer.status >= 300:
        raise Refused(sentence(answer.status, await answer.read()))


def sentence(status: int, body: bytes) -> str:
    """What the server says of a refusal."""
    try:
        return str(orjson.loads(body)["detail"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"The server answered {status} with something that is not its own: check --url."
