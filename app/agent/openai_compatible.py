"""A model behind any OpenAI-compatible endpoint: OpenAI, vLLM, Ollama and the like."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp

from app.agent.model import ModelError, ModelReply, ModelRequest, ModelStreamBroken, ModelTimeout, TextDelta
from app.agent.sse import EventParser, EventTooLong
from app.agent.wire import AnswerFormat, Dialect, decode, encode, error_code
from app.agent.wire_stream import CutOff, ProviderError, StreamedReply
from app.errors import ConfigError
from app.retry_after import parse_retry_after

MAX_BODY_BYTES = 4 << 20
STALL_S = 15.0
# How long the end of a stream is waited for after its last event, so that the connection can be used again.
_END_S = 0.5
_NO_LIMIT = aiohttp.ClientTimeout(total=None)
_OUT_OF_MONEY = "insufficient_quota"
_RETRYABLE = frozenset({408, 409, 425, 429})
_REFUSALS = frozenset({400, 404, 422, 501})


class OpenAiCompatible:
    """One model of one endpoint.

    Args:
        session: the application's own client session.
        base_url: up to and with `/v1`.
        model: the name that the endpoint knows it by.
        provider: how prices, metrics and errors call the endpoint.
        api_key: sent as a bearer token; None where the endpoint asks for none.
        schema_with_tools: whether the answer's schema may be enforced in a call that also offers tools. OpenAI
            can do both; vLLM and Ollama then constrain the output to the schema and never call a tool, so
            there the schema is stated in words until the tools are done with.
        marks_prefix: whether it wants to be told what of a prompt to keep, see `Dialect`.
        stall_s: how long a streamed answer may be silent, from its response's head on.

    An endpoint that refuses `json_schema` is asked for `json_object`, then for text with the schema in words
    (see `Dialect`); what it took is remembered for as long as this object lives.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        model: str,
        *,
        provider: str = "openai",
        api_key: str | None = None,
        schema_with_tools: bool = False,
        marks_prefix: bool = False,
        stall_s: float = STALL_S,
    ) -> None:
        if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).netloc:
            raise ConfigError(f"The address of the provider '{provider}' is no http(s) URL: give it up to '/v1'.")
        self.provider = provider
        self.model = model
        self._session = session
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._schema_with_tools = schema_with_tools
        self._stall_s = stall_s
        self._dialect = Dialect(marks_prefix=marks_prefix)

    async def complete(self, request: ModelRequest, *, timeout_s: float) -> ModelReply:
        """Raises ModelError within `timeout_s` seconds, all tries at an answer's format included."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(timeout_s):
                async with await self._open(request, streamed=False) as response:
                    raw = await self._read(response)
        except TimeoutError:
            raise ModelTimeout(self.provider, timeout_s) from None
        except aiohttp.ClientError as error:
            raise self._unreached(error) from error
        return decode(raw, request, self.model, self.provider, time.perf_counter() - started)

    async def stream(self, request: ModelRequest, *, timeout_s: float) -> AsyncGenerator[TextDelta | ModelReply, None]:
        """Raises ModelError before the first piece of text and ModelStreamBroken after it, in `timeout_s` seconds.

        An endpoint that does not stream answers in one piece. Left early, it closes the connection.
        """
        started = time.perf_counter()
        until = asyncio.get_running_loop().time() + timeout_s
        answer = StreamedReply()
        with self._failures(request, answer, until, timeout_s):
            async with asyncio.timeout_at(until):
                response = await self._open(request, streamed=True)
            with closing(response):
                if response.content_type.endswith("json"):
                    async with asyncio.timeout_at(until):
                        raw = await self._read(response)
                    reply = decode(raw, request, self.model, self.provider, time.perf_counter() - started)
                    if reply.text:
                        yield TextDelta(reply.text)
                else:
                    parser = EventParser()
                    while chunk := await self._chunk(response, answer, until):
                        for data in parser.feed(chunk):
                            if text := answer.add(data):
                                yield TextDelta(text)
                    if text := answer.end(parser.close()):
                        yield TextDelta(text)
                    reply = answer.reply(request, self.model, time.perf_counter() - started)
        yield reply

    @contextmanager
    def _failures(self, request: ModelRequest, answer: StreamedReply, until: float, timeout_s: float) -> Iterator[None]:
        """Whatever goes wrong with a stream as a ModelError, or a ModelStreamBroken where some of it was given."""
        try:
            yield
        except (ModelError, TimeoutError, aiohttp.ClientError, ValueError) as error:
            failed = error if isinstance(error, ModelError) else self._failed(error, answer, until, timeout_s)
            if not answer.written.pieces:
                raise failed from (None if failed is error else error)
            kind = ModelStreamBroken if answer.said else ModelError
            raise kind(
                failed.detail,
                retryable=failed.retryable,
                retry_after=failed.retry_after,
                status=failed.upstream_status,
                usage=answer.written.usage(request),
            ) from error

    def _failed(self, error: Exception, answer: StreamedReply, until: float, timeout_s: float) -> ModelError:
        if isinstance(error, ProviderError):
            return self._error(error.status or 500, None, error.code)
        if isinstance(error, aiohttp.ClientError):
            return self._unreached(error) if not answer.size else self._lost(error)
        if isinstance(error, CutOff):
            return ModelError(f"The provider '{self.provider}' ended its answer in the middle.", retryable=True)
        if not isinstance(error, TimeoutError):
            what = "an event that is too long" if isinstance(error, EventTooLong) else "a malformed stream"
            return ModelError(f"The provider '{self.provider}' sent {what}.", retryable=True, status=200)
        if asyncio.get_running_loop().time() >= until:
            return ModelTimeout(self.provider, timeout_s)
        return ModelError(f"The provider '{self.provider}' was silent for {self._stall_s:.1f} s.", retryable=True)

    async def _chunk(self, response: aiohttp.ClientResponse, answer: StreamedReply, until: float) -> bytes:
        """The next bytes, b"" at the end. An answer that is whole needs no proper end."""
        quiet_s = _END_S if answer.whole else self._stall_s
        try:
            async with asyncio.timeout_at(min(until, asyncio.get_running_loop().time() + quiet_s)):
                chunk = await response.content.readany()
        except (TimeoutError, aiohttp.ClientError):
            if answer.whole:
                return b""
            raise
        answer.size += len(chunk)
        if answer.size > MAX_BODY_BYTES:
            raise self._too_long()
        return chunk

    async def _open(self, request: ModelRequest, *, streamed: bool) -> aiohttp.ClientResponse:
        """A response of status 200, to be read and closed; every dialect that the endpoint may take is tried."""
        in_words = request.answer_schema is None or (bool(request.tools) and not self._schema_with_tools)
        while True:
            known = self._dialect
            dialect = replace(known, answer_format=AnswerFormat.TEXT) if in_words else known
            # A redirect would carry the key to another host.
            response = await self._session.post(
                self._url,
                data=encode(request, self.model, dialect, streamed=streamed),
                headers=self._headers,
                allow_redirects=False,
                timeout=_NO_LIMIT,
            )
            if response.status == 200:
                return response
            async with response:
                raw = await self._read(response)
            adapted = dialect.after_refusal(raw) if response.status in _REFUSALS else None
            if adapted is None:
                raise self._error(response.status, response.headers.get("Retry-After"), error_code(raw))
            learned = replace(adapted, answer_format=known.answer_format) if in_words else adapted
            self._dialect = self._dialect.and_also(learned)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise self._too_long()
            parts.append(part)
        return b"".join(parts)

    def _unreached(self, error: aiohttp.ClientError) -> ModelError:
        return ModelError(
            f"The provider '{self.provider}' could not be reached ({type(error).__name__}).", retryable=True
        )

    def _lost(self, error: aiohttp.ClientError) -> ModelError:
        return ModelError(
            f"The connection to the provider '{self.provider}' was lost ({type(error).__name__}).", retryable=True
        )

    def _too_long(self) -> ModelError:
        return ModelError(f"The provider '{self.provider}' sent more than {MAX_BODY_BYTES} bytes.", retryable=False)

    def _error(self, status: int, retry_after: str | None, code: str) -> ModelError:
        retryable = (status in _RETRYABLE or status >= 500) and code != _OUT_OF_MONEY
        return ModelError(
            f"The provider '{self.provider}' answered {status}{f' ({code})' if code else ''}.",
            retryable=retryable,
            retry_after=parse_retry_after(retry_after, datetime.now(UTC)),
            status=status,
        )
