"""The cache's user as AWS makes it, on a real server: the app does all of its work as it, and may do no more."""

import datetime as dt
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError

from app.cache.connection import RedisLink, connect
from app.cache.limits import LocalLimits, Rate, RedisLimits
from app.cache.marks import RedisMarks, Unknown
from app.cache.redis import RedisCache
from infra.aws.secrets import ALLOWED, USER_ID
from tests.support.redis import RedisServer, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("redis-of-a-cell")
    with running(folder, "--user", USER_ID, *ALLOWED.split(), ">of-no-cell") as made:
        yield made


@pytest.fixture
async def away() -> list[str]:
    """Uses that did without Redis."""
    return []


@pytest.fixture
async def link(server: RedisServer, away: list[str]) -> AsyncIterator[RedisLink]:
    made = connect(f"redis://{USER_ID}:of-no-cell@127.0.0.1:{server.port}/0", told=away.append)
    yield made
    await made.close()


async def test_the_app_does_its_work_as_the_user_that_aws_makes(link: RedisLink, away: list[str]) -> None:
    cache = RedisCache(link, "cell", clock=lambda: dt.datetime.now(dt.UTC))
    await cache.set("answer", b"yes", 60, tags=["person"])
    assert await cache.get("answer") == b"yes"
    assert await cache.drop("person") == 1
    assert await cache.get("answer") is None
    limits, rate = RedisLimits(link, LocalLimits()), Rate(2)
    assert (await limits.spend(("user", "ann"), rate)).remaining == 1
    assert (await limits.spend_window(("user", "bob"), rate)).remaining == 1
    marks = RedisMarks(link)
    unknown = await marks.needed("acme")
    assert isinstance(unknown, Unknown)
    await marks.start(5, unknown)
    await marks.note("acme", 7)
    assert await marks.needed("acme") == 7
    assert away == []


@pytest.mark.parametrize("command", [("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("ACL", "LIST")])
async def test_the_user_may_neither_empty_the_cache_nor_look_around(link: RedisLink, command: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        await link.client.execute_command(*command)


async def test_nobody_comes_in_without_the_password(server: RedisServer) -> None:
    stranger = connect(f"redis://{USER_ID}:wrong@127.0.0.1:{server.port}/0")
    with pytest.raises(AuthenticationError):
        await stranger.client.ping()
    await stranger.close()
