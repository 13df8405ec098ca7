"""What was read lately: shared by those who ask at once, fresh while it is used, never older than it may be."""

import asyncio
from types import SimpleNamespace

import pytest

from app.cache.known import Known


class Source:
    """Values that count up with each read; a read waits while the gate is shut."""

    def __init__(self) -> None:
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    async def read(self, _key: str) -> int:
        self.reads += 1
        value = self.reads
        await self.gate.wait()
        if self.broken:
            raise ConnectionError("away")
        return value


@pytest.fixture
def now() -> SimpleNamespace:
    return SimpleNamespace(at=100.0)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def known(source, now) -> Known[str, int]:
    return Known(source.read, ttl_s=1.0, timer=lambda: now.at)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_many_who_ask_at_once_share_one_read(known, source):
    assert await asyncio.gather(*(known.get("a") for _ in range(20))) == [1] * 20
    assert source.reads == 1


async def test_it_is_read_again_after_its_time(known, now):
    assert await known.get("a") == 1
    now.at += 1.0
    assert known.peek("a") is None
    assert await known.get("a") == 2


async def test_what_is_in_use_is_read_again_beside_the_answer(known, source, now):
    await known.get("a")
    now.at += 0.4
    assert known.peek("a") == 1
    await settle()
    assert source.reads == 1
    now.at += 0.2
    assert [known.peek("a") for _ in range(3)] == [1, 1, 1]
    await settle()
    assert source.reads == 2
    now.at += 0.9
    assert known.peek("a") == 2


async def test_its_age_counts_from_before_the_read(known, source, now):
    source.gate.clear()
    asking = asyncio.create_task(known.get("a"))
    await settle()
    now.at += 1.5
    source.gate.set()
    assert await asking == 1
    assert known.peek("a") is None


async def test_what_was_put_during_a_read_stays_and_is_what_the_waiting_get(known, source):
    source.gate.clear()
    asking = asyncio.create_task(known.get("a"))
    await settle()
    known.put("a", 70)
    source.gate.set()
    assert await asking == 70
    assert known.peek("a") == 70


async def test_a_read_that_began_before_the_key_was_forgotten_is_not_kept(known, source):
    source.gate.clear()
    asking = asyncio.create_task(known.get("a"))
    await settle()
    known.forget("a")
    source.gate.set()
    assert await asking == 1
    assert known.peek("a") is None
    assert await known.get("a") == 2


async def test_a_failed_read_reaches_all_who_wait_and_leaves_what_is_known(known, source, now):
    assert await known.get("a") == 1
    source.broken = True
    now.at += 0.6
    assert known.peek("a") == 1
    await settle()
    assert known.peek("a") == 1
    now.at += 0.5
    failed = await asyncio.gather(known.get("a"), known.get("a"), return_exceptions=True)
    assert [type(error) for error in failed] == [ConnectionError] * 2
    source.broken = False
    assert await known.get("a") == source.reads


async def test_who_leaves_takes_the_read_from_nobody(known, source):
    source.gate.clear()
    leaving, staying = asyncio.create_task(known.get("a")), asyncio.create_task(known.get("a"))
    await settle()
    leaving.cancel()
    await settle()
    source.gate.set()
    assert await staying == 1


async def test_what_is_warmed_is_read_once_for_who_asks_then(known, source):
    source.gate.clear()
    known.warm("a")
    known.warm("a")
    asking = asyncio.create_task(known.get("a"))
    await asyncio.sleep(0)
    source.gate.set()
    assert await asking == 1
    known.warm("a")
    assert (await known.get("a"), source.reads) == (1, 1)


async def test_a_warming_that_fails_is_told_to_who_asks(known, source):
    source.broken = True
    source.gate.clear()
    known.warm("a")
    asking = asyncio.create_task(known.get("a"))
    await asyncio.sleep(0)
    source.gate.set()
    with pytest.raises(ConnectionError):
        await asking
