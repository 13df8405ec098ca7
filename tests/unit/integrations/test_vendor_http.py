"""The manners that every vendor's client shares: when a request is sent again, and what an error may say."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from app.errors import ConfigError
from app.integrations.auth import FetchedToken, FixedToken, Grant
from app.integrations.errors import IntegrationError
from app.integrations.vendor_http import (
    MAX_ANSWER_BYTES,
    Answer,
    Call,
    Limits,
    Refusal,
    Repeat,
    VendorAccount,
    VendorHttp,
    base_address,
)
from tests.conftest import StillClock
from tests.support.fakes.server import FakeVendor, answer
from tests.support.integrations import QUICK

TOKEN = "token-that-must-stay-secret"
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@dataclass
class Acme(FakeVendor):
    body: Any = field(default_factory=lambda: {"id": "1"})

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/things", self.make), web.get("/things", self.make)]

    async def make(self, request: web.Request) -> web.Response:
        return answer(self.body)


def read_refusal(refused: Answer) -> Refusal:
    return Refusal(str((refused.body or {}).get("why", "")))


def call(repeat: Repeat, **more: Any) -> Call:
    return Call("make the thing", "POST", "/things", repeat, json={"a": 1}, **more)


@pytest.fixture
async def acme() -> AsyncIterator[Acme]:
    async with Acme() as fake:
        yield fake


@pytest.fixture
def http(acme: Acme, session: aiohttp.ClientSession, clock: StillClock) -> VendorHttp:
    return VendorHttp(session, "Acme", acme.url, FixedToken(TOKEN), read_refusal, limits=QUICK, clock=clock)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for; none of them is made."""
    asked: list[float] = []
    sleep = asyncio.sleep

    async def no_sleep(seconds: float, result: Any = None) -> Any:
        if seconds > 0:
            asked.append(seconds)
        return await sleep(0, result)

    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    return asked


@pytest.mark.parametrize(("repeat", "requests"), [(Repeat.SAFE, 2), (Repeat.BY_KEY, 1), (Repeat.NEVER, 1)])
async def test_only_a_safe_request_is_sent_again_after_its_answer_was_lost(
    acme: Acme, http: VendorHttp, repeat: Repeat, requests: int
) -> None:
    acme.lose_next_answer()
    if repeat is Repeat.SAFE:
        assert (await http.send(call(repeat))).body == {"id": "1"}
    else:
        with pytest.raises(IntegrationError, match="gave no answer") as caught:
            await http.send(call(repeat))
        assert caught.value.retryable is (repeat is Repeat.BY_KEY)
        assert caught.value.uncertain is (repeat is Repeat.NEVER)
    assert len(acme.seen) == requests


@pytest.mark.parametrize(("repeat", "requests"), [(Repeat.SAFE, 3), (Repeat.BY_KEY, 1), (Repeat.NEVER, 1)])
async def test_a_failure_of_the_vendor_is_tried_again_only_where_that_is_safe(
    acme: Acme, http: VendorHttp, repeat: Repeat, requests: int
) -> None:
    for _ in range(3):
        acme.refuse_next(503, {"why": "Down for maintenance."})
    with pytest.raises(IntegrationError, match=r"HTTP 503, Down for maintenance") as caught:
        await http.send(call(repeat))
    assert caught.value.retryable is (repeat is not Repeat.NEVER)
    assert len(acme.seen) == requests


@pytest.mark.parametrize("repeat", list(Repeat))
async def test_what_was_never_sent_is_tried_again_whatever_it_is(
    acme: Acme, session: aiohttp.ClientSession, pauses: list[float], repeat: Repeat
) -> None:
    await acme.__aexit__()
    http = VendorHttp(session, "Acme", acme.url, FixedToken(TOKEN), read_refusal, limits=QUICK)
    with pytest.raises(IntegrationError, match="cannot be reached") as caught:
        await http.send(call(repeat))
    assert (caught.value.retryable, caught.value.uncertain) == (True, False)
    assert len(pauses) == QUICK.attempts - 1


@pytest.mark.parametrize("repeat", list(Repeat))
async def test_a_rate_limit_is_waited_for_as_long_as_the_vendor_says(
    acme: Acme, http: VendorHttp, pauses: list[float], repeat: Repeat
) -> None:
    acme.refuse_next(429, {"why": "slow down"}, {"Retry-After": "3"})
    assert (await http.send(call(repeat))).ok
    assert pauses == [3.0]


async def test_a_rate_limit_beyond_the_deadline_is_handed_to_the_caller_at_once(
    acme: Acme, http: VendorHttp, pauses: list[float]
) -> None:
    acme.refuse_next(429, {"why": "slow down"}, {"Retry-After": "30"})
    with pytest.raises(IntegrationError, match=r"Acme's rate limit is reached.*slow down\.$") as caught:
        await http.send(call(Repeat.SAFE))
    assert (caught.value.retryable, caught.value.retry_after) == (True, 30.0)
    assert caught.value.headers() == {"Retry-After": "30"}
    assert pauses == []


async def test_a_rate_limit_that_stays_ends_after_the_last_attempt(
    acme: Acme, http: VendorHttp, pauses: list[float]
) -> None:
    for _ in range(5):
        acme.refuse_next(429, {"why": "slow down"}, {"Retry-After": "1"})
    with pytest.raises(IntegrationError, match="rate limit"):
        await http.send(call(Repeat.SAFE))
    assert (len(acme.seen), pauses) == (3, [1.0, 1.0])


async def test_no_pause_begins_that_would_end_after_the_deadline(
    acme: Acme, session: aiohttp.ClientSession, pauses: list[float]
) -> None:
    limits = Limits(request_s=2, deadline_s=1, attempts=3, pause_s=0.5, longest_pause_s=2)
    http = VendorHttp(session, "Acme", acme.url, FixedToken(TOKEN), read_refusal, limits=limits)
    acme.refuse_next(500, None)
    with pytest.raises(IntegrationError, match="HTTP 500, no reason given"):
        await http.send(call(Repeat.SAFE))
    assert pauses == []


@pytest.mark.parametrize("status", [301, 400, 403, 404, 409, 422])
async def test_a_refusal_is_final(acme: Acme, http: VendorHttp, status: int) -> None:
    acme.refuse_next(status, {"why": "The field\n'a' is wrong."}, {"Location": "http://127.0.0.1:9/elsewhere"})
    with pytest.raises(IntegrationError) as caught:
        await http.send(call(Repeat.SAFE))
    assert caught.value.detail == f"Acme refused to make the thing: The field 'a' is wrong (HTTP {status})."
    assert not caught.value.retryable
    assert len(acme.seen) == 1


async def test_a_status_that_the_caller_reads_itself_is_no_error(acme: Acme, http: VendorHttp) -> None:
    acme.refuse_next(409, {"why": "duplicate"})
    read = await http.send(call(Repeat.SAFE, accept=frozenset({409})))
    assert (read.status, read.ok, read.body) == (409, False, {"why": "duplicate"})


async def test_a_refused_token_from_the_settings_is_said_so(acme: Acme, http: VendorHttp) -> None:
    acme.refuse_next(401, {"why": "expired"})
    with pytest.raises(IntegrationError, match=r"expired \(HTTP 401\); check its settings\.$"):
        await http.send(call(Repeat.SAFE))


async def test_a_fetched_token_is_fetched_again_once_when_it_is_refused(
    acme: Acme, session: aiohttp.ClientSession, clock: StillClock
) -> None:
    fetched: list[str] = []

    async def fetch() -> Grant:
        fetched.append(f"token{len(fetched)}")
        return Grant(fetched[-1])

    auth = FetchedToken(fetch, clock)
    http = VendorHttp(session, "Acme", acme.url, auth, read_refusal, limits=QUICK, clock=clock)
    await http.send(call(Repeat.NEVER))
    acme.refuse_next(401, {"why": "expired"})
    await http.send(call(Repeat.NEVER))
    used = [seen.headers["Authorization"] for seen in acme.seen]
    assert used == ["Bearer token0", "Bearer token0", "Bearer token1"]
    acme.refuse_next(401, {"why": "expired"})
    acme.refuse_next(401, {"why": "revoked"})
    with pytest.raises(IntegrationError, match="revoked"):
        await http.send(call(Repeat.NEVER))
    assert len(acme.seen) == 5


async def test_a_token_is_fetched_once_for_all_and_again_a_minute_before_it_expires(clock: StillClock) -> None:
    fetched: list[Grant] = []

    async def fetch() -> Grant:
        await asyncio.sleep(0)
        fetched.append(Grant("t", expires_at=datetime.fromtimestamp(clock().timestamp() + 3600, UTC)))
        return fetched[-1]

    auth = FetchedToken(fetch, clock)
    assert len({id(grant) for grant in await asyncio.gather(*(auth.grant() for _ in range(9)))}) == 1
    clock.advance(seconds=3539)
    assert await auth.grant() is fetched[0]
    clock.advance(seconds=1)
    assert await auth.grant() is fetched[1]
    auth.drop(fetched[0])
    assert await auth.grant() is fetched[1]


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'{"name": 1}', b""])
async def test_an_answer_without_what_is_needed_is_an_error_of_the_vendor(
    acme: Acme, http: VendorHttp, body: bytes
) -> None:
    acme.body = body
    with pytest.raises(IntegrationError, match="Acme answered with") as caught:
        await http.send(call(Repeat.NEVER, needs=("id",)))
    assert caught.value.uncertain


async def test_an_endless_answer_is_cut_off(acme: Acme, http: VendorHttp) -> None:
    acme.body = b" " * (MAX_ANSWER_BYTES + 1)
    with pytest.raises(IntegrationError, match="more than"):
        await http.send(call(Repeat.NEVER))


@dataclass
class Silent(FakeVendor):
    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/things", self.wait)]

    async def wait(self, _request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError("the client waited a minute")


async def test_a_vendor_that_says_nothing_is_given_up(session: aiohttp.ClientSession) -> None:
    limits = Limits(request_s=0.1, deadline_s=1)
    async with Silent() as silent:
        http = VendorHttp(session, "Acme", silent.url, FixedToken(TOKEN), read_refusal, limits=limits)
        with pytest.raises(IntegrationError, match=r"gave no answer within 0\.1 s") as caught:
            await http.send(call(Repeat.NEVER))
    assert caught.value.uncertain


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
async def test_neither_secrets_nor_addresses_reach_an_error_or_a_log(
    acme: Acme, session: aiohttp.ClientSession, status: int
) -> None:
    secrets = ("s3cr3t-of-the-client", TOKEN)
    why = f"Bearer {TOKEN} and {secrets[0]} are not valid for ana@rivera.example " + "x" * 1000
    acme.refuse_next(status, {"why": why}, {"Retry-After": "60"})
    http = VendorHttp(session, "Acme", acme.url, FixedToken(TOKEN), read_refusal, secrets=secrets[:1], limits=QUICK)
    with capture_logs() as logs, pytest.raises(IntegrationError) as caught:
        await http.send(call(Repeat.SAFE, params={"q": "ana@rivera.example"}))
    written = repr(
        (caught.value, caught.value.detail, caught.value.__cause__, vars(caught.value), logs, await http._auth.grant())
    )
    assert not [word for word in (*secrets, "ana@rivera.example") if word in written]
    assert len(caught.value.detail) < 500
    assert [(entry["vendor"], entry["operation"], entry["status"]) for entry in logs] == [
        ("Acme", "make the thing", status)
    ]


async def test_a_lost_connection_says_nothing_of_the_request(acme: Acme, http: VendorHttp) -> None:
    acme.lose_next_answer()
    with capture_logs() as logs, pytest.raises(IntegrationError) as caught:
        await http.send(call(Repeat.NEVER, params={"q": "ana@rivera.example"}))
    written = repr((caught.value, caught.value.__cause__, logs))
    assert TOKEN not in written
    assert "ana@" not in written


@pytest.mark.parametrize("address", ["", "api.acme.example", "http://api.acme.example", "ftp://127.0.0.1/"])
def test_a_token_is_never_sent_without_encryption(address: str) -> None:
    with pytest.raises(ConfigError, match="https"):
        base_address("Acme", address)
    assert base_address("Acme", "https://api.acme.example/v1/") == "https://api.acme.example/v1"


def test_an_account_serves_only_the_tenants_whose_it_is() -> None:
    account = VendorAccount("Acme", frozenset({"ten_a"}))
    account.check("ten_a")
    with pytest.raises(IntegrationError, match="not connected for this tenant"):
        account.check("ten_b")
    with pytest.raises(ConfigError, match="TRELLIS_VENDOR_TENANTS"):
        VendorAccount("Acme", frozenset())
