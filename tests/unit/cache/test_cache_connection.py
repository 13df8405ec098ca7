"""What redis-py raises where a node dies is Redis being away, and no error of ours."""

from typing import Any, cast

import pytest

from app.cache.connection import Client, RedisAway, RedisLink


class Raising:
    """A client that fails in one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def execute_command(self, *_words: Any, **_how: Any) -> Any:
        raise self._error


@pytest.mark.parametrize(
    "error",
    [
        AttributeError("'NoneType' object has no attribute 'writelines'"),
        RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),
        OSError("gone"),
    ],
)
async def test_a_connection_that_was_closed_under_way_is_redis_away(error: Exception) -> None:
    link = RedisLink(cast(Client, Raising(error)))
    with pytest.raises(RedisAway):
        await link.run(lambda commands: commands.get("key"))
    assert link.paused
