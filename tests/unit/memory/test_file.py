"""Conversations between two processes: what the file holds, for how long, and who may read it."""

import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.memory import Conversation, LocalMemory, MemoryFile, Talk, Turn
from app.memory.wire import pack_talks, talks_of
from tests.conftest import StillClock


def talk(clock: StillClock, user: str = "ann", bot: str = "shop", *, hours: float = 0, text: str = "hers") -> Talk:
    at = clock() - timedelta(hours=hours)
    return Talk("acme", bot, user, (Turn("user", text, at), Turn("assistant", "answer\x00é", at)), ("before", at))


async def all_of(talks: AsyncIterator[Talk]) -> list[Talk]:
    return [one async for one in talks]


async def test_what_is_taken_is_what_was_written_and_then_nothing(tmp_path: Path, clock: StillClock) -> None:
    file, kept = MemoryFile(tmp_path, clock), [talk(clock), talk(clock, "bob")]
    await file.write(kept)
    assert [path.name for path in tmp_path.iterdir()] == [file.path.name]
    assert await file.take() == kept
    assert list(tmp_path.iterdir()) == []
    assert await file.take() == []


async def test_only_its_user_may_read_it(tmp_path: Path, clock: StillClock) -> None:
    file = MemoryFile(tmp_path, clock)
    (tmp_path / f"{file.path.name}.part").write_text("left by a crash, for all to read")
    await file.write([talk(clock)])
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert "for all to read" not in file.path.read_text()


async def test_nothing_of_yesterday_is_given_out_or_stays(tmp_path: Path, clock: StillClock) -> None:
    file = MemoryFile(tmp_path, clock)
    await file.write([talk(clock, "ann", hours=23), talk(clock, "bob")])
    clock.advance(hours=1)
    assert [one.user for one in await all_of(file.talks())] == ["bob"]
    await file.drop_expired()
    assert b"ann" not in file.path.read_bytes()
    clock.advance(hours=23)
    await file.drop_expired()
    assert not file.path.exists()


async def test_a_file_that_cannot_be_read_stops_nobody(tmp_path: Path, clock: StillClock) -> None:
    file = MemoryFile(tmp_path, clock)
    for content in (b"", b"{}", b'[["acme"]]', b'[["acme","shop","ann",[["user","x"]],null]]', b"\xff"):
        file.path.write_bytes(content)
        assert await file.take() == []
        assert not file.path.exists()


async def test_a_person_is_taken_out_and_the_rest_stays(tmp_path: Path, clock: StillClock) -> None:
    file = MemoryFile(tmp_path, clock)
    others = [talk(clock, "bob"), Talk("rival", "shop", "ann", talk(clock).turns)]
    await file.write([talk(clock), talk(clock, bot="help"), *others])
    assert await file.export("acme", "ann") == {
        "shop": Conversation(talk(clock).turns, "before"),
        "help": Conversation(talk(clock).turns, "before"),
    }
    await file.forget("acme", "ann", "help")
    assert list(await file.export("acme", "ann")) == ["shop"]
    await file.forget("acme", "ann")
    assert (await file.export("acme", "ann"), await file.take()) == ({}, others)
    await file.write([talk(clock)])
    await file.forget("acme", "ann")
    assert not file.path.exists()


async def test_what_comes_back_stands_beside_what_is_there(tmp_path: Path, clock: StillClock) -> None:
    file = MemoryFile(tmp_path, clock)
    await file.write([talk(clock)])
    await file.restore([talk(clock, text="another"), talk(clock, "bob")])
    assert await file.take() == [talk(clock), talk(clock, "bob")]


async def test_one_memory_goes_on_where_the_other_ended(tmp_path: Path, clock: StillClock) -> None:
    before, after, file = LocalMemory(clock), LocalMemory(clock), MemoryFile(tmp_path, clock)
    await before.restore([talk(clock)])
    await file.write(await all_of(before.talks()))
    await after.restore(await file.take())
    assert await after.recent("acme", "shop", "ann") == list(talk(clock).turns)
    assert await after.summary("acme", "shop", "ann") == "before"


async def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = MemoryFile(tmp_path, clock)
    await file.write([talk(clock)])

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        await file.write([talk(clock, "bob")])
    assert await file.take() == [talk(clock)]


words = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
times = st.datetimes().map(lambda naive: naive.astimezone())
turns = st.builds(Turn, st.sampled_from(["user", "assistant"]), words, times)


@given(st.lists(st.builds(Talk, words, words, words, st.lists(turns).map(tuple), st.none() | st.tuples(words, times))))
def test_bytes_give_back_what_they_were_made_of(talks: list[Talk]) -> None:
    assert talks_of(pack_talks(talks)) == talks
