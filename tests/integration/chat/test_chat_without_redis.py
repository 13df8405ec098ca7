"""Requests on a real Redis while it is refused, hangs, resets, comes back empty or loses a master: none fails."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.chat.test_chat import LEAVE, PAGE, answer, put_bot, put_page
from tests.support.claims import signed_in
from tests.support.jobs import until
from tests.support.redis import RedisServer, RunningCluster, running_cluster
from tests.support.service import TENANT, Service, running
from tests.support.wire import Wire

USES = ("cache", "limiter", "memory")
PAUSE_S = 0.3
WAIT_S = 60


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cache.connection.PAUSE_S", PAUSE_S)


@pytest.fixture
def wire(redis_server: RedisServer) -> Iterator[Wire]:
    redis_server.client().flushall()
    with Wire(redis_server.port) as wire:
        yield wire


@pytest.fixture
async def service(tmp_path: Path, wire: Wire) -> AsyncIterator[Service]:
    async with running(tmp_path, knowledge=False, redis_url=f"redis://127.0.0.1:{wire.port}/0") as found:
        await put_page(found)
        assert (await put_bot(found, open_to_users=True)).status_code in (200, 201)
        yield found


def fallbacks(service: Service, use: str) -> float:
    found = service.container.metrics.registry.get_sample_value("trellis_redis_fallbacks_total", {"use": use})
    return found or 0.0


def away(service: Service) -> float | None:
    return service.container.metrics.registry.get_sample_value("trellis_redis_away")


async def asked(service: Service, who: dict[str, str]) -> int:
    """Asks in both ways, from the cache and past it; how many days the answer says. Every request is answered."""
    texts = [(await answer(service, LEAVE, **more))["text"] for more in ({"who": who}, {"history": []})]
    (days,) = {text.partition(" days")[0][-2:] for text in texts}
    return int(days)


async def recovered(service: Service) -> None:
    """Returns once a request does nothing without Redis."""
    async with asyncio.timeout(WAIT_S):
        while True:
            before = sum(fallbacks(service, use) for use in USES)
            await answer(service, LEAVE)
            if before == sum(fallbacks(service, use) for use in USES) and not away(service):
                return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("fault", [Wire.cut, Wire.stall], ids=["refused", "hanging"])
async def test_no_request_fails_while_redis_is_away_and_nothing_stale_is_said(
    fault: Callable[[Wire], None], service: Service, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await signed_in(service, "ann")
    assert await asked(service, ann) == 28
    await asyncio.to_thread(fault, wire)
    monkeypatch.setattr("app.cache.connection.TRIP_S", PAUSE_S)
    assert await asked(service, ann) == 28
    assert away(service) == 1
    await until(lambda: all(fallbacks(service, use) for use in USES), "each use does without")
    await put_page(service, text=PAGE.replace("28 days", "31 days"))
    assert await asked(service, ann) == 31, "what Redis still holds of before is not said"
    refused = await service.client.delete("/v1/bots/docs/memory", headers=ann)
    assert refused.status_code == 503, "a promise that cannot be kept now"
    wire.heal()
    await recovered(service)
    assert await asked(service, ann) == 31
    assert (await service.client.delete("/v1/bots/docs/memory", headers=ann)).status_code == 204


async def test_no_request_fails_where_connections_are_reset_again_and_again(service: Service, wire: Wire) -> None:
    ann = await signed_in(service, "ann")
    for _ in range(5):
        work = asyncio.create_task(asked(service, ann))
        await asyncio.sleep(0.01)
        await asyncio.to_thread(wire.cut)
        await asyncio.to_thread(wire.heal)
        assert await work == 28
    await recovered(service)


async def test_no_request_fails_on_a_redis_that_comes_back_empty(service: Service, redis_server: RedisServer) -> None:
    ann = await signed_in(service, "ann")
    await asked(service, ann)
    assert await service.container.kit.memory.recent(TENANT, "docs", "ann")
    redis_server.client().flushall()
    assert not await service.container.kit.memory.recent(TENANT, "docs", "ann")
    await put_page(service, text=PAGE.replace("28 days", "31 days"))
    assert await asked(service, ann) == 31
    assert not away(service)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RunningCluster]:
    with running_cluster(tmp_path / "redis", replicas=1) as cluster:
        yield cluster


async def test_no_request_fails_while_a_cluster_loses_a_master(tmp_path: Path, cluster: RunningCluster) -> None:
    async with running(tmp_path, knowledge=False, redis_url=cluster.url) as service:
        await put_page(service)
        assert (await put_bot(service, open_to_users=True)).status_code in (200, 201)
        users = [await signed_in(service, f"u{number}") for number in range(6)]
        assert {await asked(service, user) for user in users} == {28}
        cluster.kill(0)
        assert {await asked(service, user) for user in users} == {28}
        await put_page(service, text=PAGE.replace("28 days", "31 days"))
        assert {await asked(service, user) for user in users} == {31}
        await recovered(service)
        assert {await asked(service, user) for user in users} == {31}
