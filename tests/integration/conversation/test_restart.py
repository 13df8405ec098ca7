"""What was said outlives a graceful end of the embedded server, and an erasure reaches it wherever it lies."""

from pathlib import Path
from urllib.parse import quote

import pytest

from app.clock import system_clock
from app.memory import MemoryFile, Talk, Turn
from tests.support.service import TENANT, running

ANN, BOT = "ann-17", "shop"
pytestmark = pytest.mark.timeout(120)


def said(text: str) -> Turn:
    return Turn("user", text, system_clock())


async def test_a_restart_forgets_nothing_and_leaves_no_file_while_the_server_runs(tmp_path: Path) -> None:
    file = MemoryFile(tmp_path, system_clock)
    async with running(tmp_path, knowledge=False) as service:
        await service.container.kit.memory.add(TENANT, BOT, ANN, said("before"))
        await service.container.kit.memory.summarise(TENANT, BOT, ANN, "long ago")
        key = service.key
    assert file.path.exists()
    async with running(tmp_path, knowledge=False, key=key) as service:
        assert not file.path.exists()
        memory = service.container.kit.memory
        assert [turn.text for turn in await memory.recent(TENANT, BOT, ANN)] == ["before"]
        assert await memory.summary(TENANT, BOT, ANN) == "long ago"


async def test_an_erased_person_is_not_in_the_file_of_the_next_end(tmp_path: Path) -> None:
    async with running(tmp_path, knowledge=False, erase_again_s=0) as service:
        for user in (ANN, "bob"):
            await service.container.kit.memory.add(TENANT, BOT, user, said(user))
        # As another process of the same folder may have left it.
        await MemoryFile(tmp_path, system_clock).write([Talk(TENANT, BOT, ANN, (said("hers"),))])
        gone = await service.client.delete(f"/v1/people/{quote(ANN)}")
        assert gone.json()["erased"]["memory"] == 2
        assert not MemoryFile(tmp_path, system_clock).path.exists()
    left = await MemoryFile(tmp_path, system_clock).take()
    assert [talk.user for talk in left] == ["bob"]


async def test_with_a_redis_there_is_no_file(tmp_path: Path, redis_cluster: str) -> None:
    async with running(tmp_path, knowledge=False, redis_url=redis_cluster) as service:
        await service.container.kit.memory.add(TENANT, BOT, ANN, said("before"))
        await service.container.kit.memory.forget(TENANT, ANN)
    assert not MemoryFile(tmp_path, system_clock).path.exists()
