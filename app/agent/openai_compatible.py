"""A model behind any OpenAI-compatible endpoint: OpenAI, vLLM, Ollama and the like."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp

from app.agent.model import ModelError, ModelReply, ModelRequest, ModelTimeout
from app.agent.wire import AnswerFormat, Dialect, decode, encode, error_code
from app.errors import ConfigError
from app.retry_after import parse_retry_after

MAX_BODY_BYTES = 4 << 20
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
        self._dialect = Dialect()

    async def complete(self, request: ModelRequest, *, timeout_s: float) -> ModelReply:
        """Raises ModelError within `timeout_s` seconds, all tries at an answer's format included."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(timeout_s):
                raw = await self._ask(request)
        except TimeoutError:
            raise ModelTimeout(self.provider, timeout_s) from None
        except aiohttp.ClientError as error:
            raise ModelError(
                f"The provider '{self.provider}' could not be reached ({type(error).__name__}).", retryable=True
            ) from error
        return decode(raw, request, self.model, self.provider, time.perf_counter() - started)

    async def _ask(self, request: ModelRequest) -> bytes:
        in_words = request.answer_schema is None or (bool(request.tools) and not self._schema_with_tools)
        while True:
            known = self._dialect
            dialect = replace(known, answer_format=AnswerFormat.TEXT) if in_words else known
            status, retry_after, raw = await self._post(encode(request, self.model, dialect))
            if status == 200:
                return raw
            adapted = dialect.after_refusal(raw) if status in _REFUSALS else None
            if adapted is None:
                raise self._error(status, retry_after, raw)
            learned = replace(adapted, answer_format=known.answer_format) if in_words else adapted
            self._dialect = self._dialect.and_also(learned)

    async def _post(self, body: bytes) -> tuple[int, str | None, bytes]:
        # A redirect would carry the key to another host.
        async with self._session.post(
            self._url,
            data=body,
            headers=self._headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as response:
            return response.status, response.headers.get("Retry-After"), await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise ModelError(
                    f"The provider '{self.provider}' sent more than {MAX_BODY_BYTES} bytes.", retryable=False
                )
            parts.append(part)
        return b"".join(parts)

    def _error(self, status: int, retry_after: str | None, raw: bytes) -> ModelError:
        code = error_code(raw)
        retryable = (status in _RETRYABLE or status >= 500) and code != _OUT_OF_MONEY
        return ModelError(
            f"The provider '{self.provider}' answered {status}{f' ({code})' if code else ''}.",
            retryable=retryable,
            retry_after=parse_retry_after(retry_after, datetime.now(UTC)),
            status=status,
        )
