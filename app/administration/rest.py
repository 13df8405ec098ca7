"""The running server's API, as the command line calls it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from app.administration.events import EventSource, Refused, Sent, sentence
from app.clock import system_clock
from app.errors import ConfigError
from app.retry_after import parse_retry_after
from app.settings import Settings

TIMEOUT_S = 120.0
MOST_WAITS = 10
LONGEST_WAIT_S = 60.0


class Rest:
    """Calls with one key; waits where the server asks for it. A refusal is raised as the server's own sentence."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self._address = address

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, url: str | None, key: str | None) -> AsyncIterator["Rest"]:
        """To `url` with `key`; without them to this machine's server with its own key. Raises ConfigError."""
        address = (url or settings.address).rstrip("/")
        headers = {"Authorization": f"Bearer {key or _local_key(settings)}"}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        # A redirect would carry the key to another host: none is followed. A proxy has no business in between.
        async with aiohttp.ClientSession(headers=headers, timeout=timeout, trust_env=False) as session:
            yield cls(session, address)

    async def get(self, path: str, **query: str | int) -> Any:
        return await self._call("GET", path, params=query)

    async def post(self, path: str, document: Any = None) -> Any:
        """`document` as JSON, or no body."""
        return await self._call("POST", path, document=document)

    def events(self, path: str, document: Any, ends: Collection[str]) -> AsyncGenerator[Sent, None]:
        """As `EventSource.ask`, with the key."""
        return EventSource(self._session, self._address, self._no_headers).ask(path, document, ends)

    async def _no_headers(self) -> Mapping[str, str]:
        """The session sends the key."""
        return {}

    async def delete(self, path: str) -> Any:
        return await self._call("DELETE", path)

    async def send_file(self, path: str, name: str, content: bytes, kind: str, fields: Mapping[str, str]) -> Any:
        """A form with the file and its fields."""

        def form() -> aiohttp.FormData:
            data = aiohttp.FormData()
            for field, value in fields.items():
                data.add_field(field, value)
            data.add_field("file", content, filename=name, content_type=kind)
            return data

        return await self._call("POST", path, form=form)

    async def pages(self, path: str, **query: str | int) -> AsyncIterator[dict[str, Any]]:
        """Every item of a list."""
        cursor: dict[str, str] = {}
        while True:
            page = await self.get(path, limit=200, **query, **cursor)
            for item in page["items"]:
                yield item
            if page["next_cursor"] is None:
                return
            cursor = {"cursor": page["next_cursor"]}

    async def _call(
        self,
        method: str,
        path: str,
        *,
        form: Callable[[], aiohttp.FormData] | None = None,
        document: Any = None,
        params: Mapping[str, str | int] | None = None,
    ) -> Any:
        for _ in range(MOST_WAITS):
            status, headers, body = await self._once(method, path, form() if form else None, document, params)
            if status not in (429, 503):
                break
            asked = parse_retry_after(headers.get("Retry-After"), system_clock())
            await asyncio.sleep(min(asked or 1.0, LONGEST_WAIT_S))
        if status >= 300:
            raise Refused(sentence(status, body))
        return orjson.loads(body) if body else None

    async def _once(
        self,
        method: str,
        path: str,
        form: aiohttp.FormData | None,
        document: Any,
        params: Mapping[str, str | int] | None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        try:
            async with self._session.request(
                method, self._address + path, data=form, json=document, params=params, allow_redirects=False
            ) as answer:
                return answer.status, answer.headers, await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ConfigError(
                f"Nothing answers at {self._address} ({type(error).__name__}): start the server (`make up`), or name "
                "another one with --url."
            ) from error


def _local_key(settings: Settings) -> str:
    try:
        return settings.local_key_file.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"There is no key of this machine in {settings.local_key_file}: start the server (`make up`), or give a "
            "key with --key."
        ) from error
