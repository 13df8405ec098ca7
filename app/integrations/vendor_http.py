"""How a vendor is asked over HTTP: one deadline, retries only where they are safe, and no secret in any error.

A request is sent again when the vendor cannot have carried it out (no connection, a rate limit, an expired
session), or when doing it twice is the same as doing it once. Retry-After is honoured inside the deadline.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

import aiohttp
import orjson
import stamina
import structlog
from yarl import URL

from app.clock import Clock, system_clock
from app.errors import ConfigError
from app.governance.privacy import mask, mask_secrets
from app.integrations.auth import Auth, Grant
from app.integrations.errors import IntegrationError
from app.retry_after import parse_retry_after

MAX_ANSWER_BYTES = 10 * 1024 * 1024
MAX_VENDOR_WORDS = 300
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

log = structlog.get_logger(__name__)


class Repeat(StrEnum):
    """What may be done when a request left and no answer came back."""

    SAFE = "safe"
    """The request may be sent again as it is."""
    BY_KEY = "by_key"
    """Not the request, but the whole operation with the same key: it looks for what the first one made."""
    NEVER = "never"
    """Nothing: a person decides."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds: of one request, of all tries together, of the first and the longest pause between two."""

    request_s: float = 6.0
    deadline_s: float = 9.0
    attempts: int = 3
    pause_s: float = 0.2
    longest_pause_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Args:
        operation: what is being done, for logs and errors ("save the contact"); never personal data.
        path: from the vendor's base address on, percent-encoded by the caller.
        accept: statuses beside 2xx that the caller reads itself.
        needs: members that the body of a 2xx answer must have.
    """

    operation: str
    method: str
    path: str
    repeat: Repeat
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str] | None = None
    accept: frozenset[int] = frozenset()
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `body` is the parsed JSON, None where there is none; `grant` is what it was asked with."""

    status: int
    headers: Mapping[str, str]
    body: Any
    grant: Grant

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Refusal:
    """A vendor's error body, read: its own words, whether a limit is behind it, seconds until the limit ends."""

    words: str
    limited: bool = False
    retry_after: float | None = None


class _Unanswered(IntegrationError):
    """The request may or may not have been carried out."""


def needed(vendor: str, **settings: str | None) -> None:
    """Raises ConfigError that names the first setting that is missing."""
    for name, value in settings.items():
        if not value:
            raise ConfigError(f"{vendor} needs TRELLIS_{name.upper()}: set it, or choose the local integration.")


def base_address(vendor: str, address: str) -> str:
    """The address without a trailing slash. Raises ConfigError unless it is https (or this machine, in tests)."""
    url = URL(address)
    if url.scheme != "https" and not (url.scheme == "http" and url.host in _LOOPBACK):
        raise ConfigError(f"{vendor}'s address '{address[:80]}' must begin with https:// : a token is sent to it.")
    return address.rstrip("/")


@dataclass(frozen=True, slots=True)
class VendorAccount:
    """The tenants whose account this is: a vendor's account never mixes the data of others into it."""

    vendor: str
    tenants: frozenset[str]

    def __post_init__(self) -> None:
        if not self.tenants:
            raise ConfigError(f"{self.vendor} needs TRELLIS_VENDOR_TENANTS: the tenants whose account it is.")

    def check(self, tenant_id: str) -> None:
        if tenant_id not in self.tenants:
            raise IntegrationError(
                f"{self.vendor} is not connected for this tenant: add it to TRELLIS_VENDOR_TENANTS.", retryable=False
            )


class VendorHttp:
    """One vendor's address, credentials and manners.

    Args:
        session: shared, and keeping no cookies; this class never closes it.
        read_refusal: reads the vendor's error body.
        secrets: texts that must never come back in an error, beside the tokens of `auth`.
        headers: sent with every request; they may replace what stands there by itself.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        vendor: str,
        base_url: str,
        auth: Auth,
        read_refusal: Callable[[Answer], Refusal],
        *,
        secrets: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self.vendor = vendor
        self._session = session
        self._base_url = base_address(vendor, base_url)
        self._auth = auth
        self._read_refusal = read_refusal
        self._secrets = tuple(secret for secret in secrets if secret)
        self._headers = {"Accept": "application/json", **(headers or {})}
        self._limits = limits or Limits()
        self._clock = clock

    async def send(self, call: Call) -> Answer:
        """A 2xx answer, or one of `call.accept`. Raises IntegrationError."""
        deadline = time.monotonic() + self._limits.deadline_s
        retries = stamina.retry_context(
            on=partial(self._pause, call, deadline),
            attempts=self._limits.attempts,
            timeout=None,
            wait_initial=self._limits.pause_s,
            wait_max=self._limits.longest_pause_s,
            wait_jitter=self._limits.pause_s,
        )
        async for attempt in retries:
            with attempt:
                return await self._attempt(call, deadline)
        raise AssertionError("stamina ends by an answer or an error")

    def _pause(self, call: Call, deadline: float, error: Exception) -> bool | float:
        """Whether, or after how many seconds, the call is tried again."""
        if not isinstance(error, IntegrationError) or not error.retryable:
            return False
        if isinstance(error, _Unanswered) and call.repeat is not Repeat.SAFE:
            return False
        left = deadline - time.monotonic()
        if error.retry_after is None:
            return left > self._limits.longest_pause_s + self._limits.pause_s
        return error.retry_after if error.retry_after < left else False

    async def _attempt(self, call: Call, deadline: float) -> Answer:
        grant = await self._auth.grant()
        answer = await self._exchange(call, grant, deadline)
        if answer.status == 401 and self._auth.renewable:
            self._auth.drop(grant)
            grant = await self._auth.grant()
            answer = await self._exchange(call, grant, deadline)
        if answer.ok:
            return self._whole(call, answer)
        if answer.status in call.accept:
            return answer
        raise self.refused(call, answer)

    async def _exchange(self, call: Call, grant: Grant, deadline: float) -> Answer:
        started = time.monotonic()
        seconds = max(0.05, min(self._limits.request_s, deadline - started))
        try:
            answer = await self._ask(call, grant, seconds)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            detail = f"{self.vendor} cannot be reached to {call.operation}: check the network and the address."
            raise IntegrationError(detail, retryable=True) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unanswered(call, f"gave no answer within {seconds:.1f} s") from error
        taken_ms = round((time.monotonic() - started) * 1000)
        log.info(
            "vendor_call", vendor=self.vendor, operation=call.operation, status=answer.status, duration_ms=taken_ms
        )
        return answer

    async def _ask(self, call: Call, grant: Grant, seconds: float) -> Answer:
        headers = dict(self._headers)
        if grant.token:
            headers["Authorization"] = f"Bearer {grant.token}"
        body: Any = call.form
        if call.json is not None:
            headers["Content-Type"] = "application/json"
            body = orjson.dumps(call.json)
        url = URL((grant.base_url or self._base_url) + call.path, encoded=True).update_query(call.params)
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with self._session.request(
            call.method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await self._body(call, response), grant)

    async def _body(self, call: Call, response: aiohttp.ClientResponse) -> Any:
        received = bytearray()
        async for chunk in response.content.iter_chunked(1 << 16):
            received += chunk
            if len(received) > MAX_ANSWER_BYTES:
                raise self._unanswered(call, f"answered with more than {MAX_ANSWER_BYTES} bytes")
        if not received.strip():
            return None
        try:
            return orjson.loads(received)
        except orjson.JSONDecodeError as error:
            if not 200 <= response.status < 300:
                return None
            raise self._unanswered(call, "answered with something that is not JSON") from error

    def _whole(self, call: Call, answer: Answer) -> Answer:
        body = answer.body if isinstance(answer.body, dict) else {}
        missing = [name for name in call.needs if name not in body]
        if missing:
            raise self._unanswered(call, f"answered without '{missing[0]}'")
        return answer

    def _unanswered(self, call: Call, what: str, pause: float | None = None) -> IntegrationError:
        never = call.repeat is Repeat.NEVER
        fate = "; it may have been carried out, so look there before trying again." if never else "; try again."
        detail = f"{self.vendor} {what} when asked to {call.operation}{fate}"
        return _Unanswered(detail, retryable=not never, retry_after=pause, uncertain=never)

    def refused(self, call: Call, answer: Answer, hint: str = "") -> IntegrationError:
        """The error for an answer that is not what was asked for; `hint` says what may help."""
        refusal = self._read_refusal(answer)
        words = self.clean(refusal.words, answer) or "no reason given"
        pause = parse_retry_after(answer.headers.get("Retry-After"), self._clock())
        pause = refusal.retry_after if pause is None else pause
        if refusal.limited or answer.status == 429:
            detail = f"{self.vendor}'s rate limit is reached, so it did not {call.operation}: {words}."
            return IntegrationError(detail, retryable=True, retry_after=pause)
        if answer.status >= 500 or answer.status == 408:
            return self._unanswered(call, f"failed (HTTP {answer.status}, {words})", pause)
        hint = hint or ("check its settings" if answer.status == 401 else "")
        ending = f"; {hint}." if hint else "."
        return IntegrationError(
            f"{self.vendor} refused to {call.operation}: {words} (HTTP {answer.status}){ending}", retryable=False
        )

    def clean(self, words: str, answer: Answer) -> str:
        """The vendor's words on one line, without secrets and personal data, at most 300 characters, no full stop."""
        for secret in (*self._secrets, answer.grant.token):
            words = words.replace(secret, "***") if secret else words
        return " ".join(mask(mask_secrets(words)).split())[:MAX_VENDOR_WORDS].rstrip(".")
