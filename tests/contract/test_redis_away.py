"""A Redis that dies or hangs: a miss, one warning a pause, and no drop is lost."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.cache.connection import PAUSE_S, RedisLink, connect
from app.cache.redis import RedisCache
from app.errors import ConfigError, Unavailable
from app.memory import RedisMemory, Turn
from tests.conftest import StillClock
from tests.support.postgres import free_port
from tests.support.redis import RedisServer, running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path) as server:
        yield server
        server.process.send_signal(signal.SIGCONT)


class Paced:
    """A link whose pauses end when the test says so."""

    def __init__(self, url: str) -> None:
        self.now = 100.0
        self.link = RedisLink(connect(url).client, lambda: self.now)


async def test_nothing_answers_and_nothing_fails_with_one_warning_a_pause(clock: StillClock) -> None:
    paced = Paced(f"redis://127.0.0.1:{free_port()}/0")
    cache, memory = RedisCache(paced.link, "test", clock=clock), RedisMemory(paced.link, clock)
    with capture_logs() as logs:
        for _ in range(3):
            await cache.set("k", b"v", 60, ["t"])
            assert await cache.get("k") is None
            assert await cache.drop("t") == 0
            assert await cache.dropped_elsewhere() == []
            await memory.add("acme", "bot", "ann", Turn("user", "hello", clock()))
            assert list(await memory.recent("acme", "bot", "ann")) == []
            await memory.summarise("acme", "bot", "ann", "text")
            assert await memory.summary("acme", "bot", "ann") is None
        assert [line["event"] for line in logs] == ["redis.away"]
        paced.now += PAUSE_S
        assert await cache.get("k") is None
        assert [line["event"] for line in logs] == ["redis.away"] * 2
    await paced.link.close()


async def test_erasing_and_exporting_say_that_they_did_not_happen(clock: StillClock) -> None:
    link = connect(f"redis://127.0.0.1:{free_port()}/0")
    memory = RedisMemory(link, clock)
    for work in (memory.forget, memory.export):
        with pytest.raises(Unavailable, match="try again"):
            await work("acme", "ann")
    await link.close()


@pytest.mark.parametrize("fault", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_server_that_hangs_or_dies_is_asked_once_and_then_not_for_a_while(
    server: RedisServer, fault: signal.Signals, clock: StillClock
) -> None:
    paced = Paced(server.url)
    cache = RedisCache(paced.link, "test", clock=clock)
    await cache.set("k", b"v", 60)
    assert await cache.get("k") == b"v"
    server.process.send_signal(fault)
    assert await cache.get("k") is None
    assert paced.link.paused
    if fault == signal.SIGSTOP:
        server.process.send_signal(signal.SIGCONT)
        assert await cache.get("k") is None, "still in its pause"
        paced.now += PAUSE_S
        assert await cache.get("k") == b"v"
    await paced.link.close()


async def test_a_drop_that_redis_missed_is_made_good_before_anything_is_read(
    server: RedisServer, clock: StillClock
) -> None:
    paced, other = Paced(server.url), connect(server.url)
    cache, elsewhere = (RedisCache(link, "test", clock=clock) for link in (paced.link, other))
    await cache.set("k", b"v", 60, ["t"])
    await cache.set("kept", b"v", 60, ["u"])
    server.process.send_signal(signal.SIGSTOP)
    assert await cache.drop("t") == 0
    server.process.send_signal(signal.SIGCONT)
    assert await elsewhere.get("k") == b"v", "nobody has told Redis yet"
    paced.now += PAUSE_S
    assert await cache.get("kept") == b"v"
    assert await elsewhere.get("k") is None
    assert await elsewhere.dropped_elsewhere() == [("t",)]
    for link in (paced.link, other):
        await link.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:6379", "must start with one of redis://"),
        ("127.0.0.1:6379", "must start with one of redis://"),
        ("redis://127.0.0.1:port/0", "cannot be read"),
        ("redis+cluster://127.0.0.1", "is not host:port"),
        ("redis+cluster://127.0.0.1:1,", "is not host:port"),
        ("redis+sentinel://127.0.0.1:1", "ends in /<service>"),
    ],
)
def test_an_address_that_is_none_is_refused_with_a_sentence(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"TRELLIS_REDIS_URL.*{reason}"):
        connect(url)


@pytest.mark.parametrize(
    "url",
    [
        "rediss://user:secret@127.0.0.1:6380/1",
        "redis+cluster://:p%40ss@127.0.0.1:1,127.0.0.1:2",
        "rediss+cluster://127.0.0.1:1",
        "redis+sentinel://127.0.0.1:1,127.0.0.1:2/main",
    ],
)
async def test_every_kind_of_address_makes_a_link_that_connects_later(url: str) -> None:
    link = connect(url)
    assert not link.paused
    await link.close()
