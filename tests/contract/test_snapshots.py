"""Snapshots of a vector server's indexes: taken whole, kept, put back, and never half."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from app.errors import InvalidInput, Unavailable
from app.knowledge.qdrant import QdrantVectors
from app.knowledge.snapshots import LIST, Node, keep, listed, restore, take_all, taken
from tests.conftest import StillClock
from tests.contract.test_vectors import ACME, OTHER, PAGES, ask, put
from tests.support.fakes.qdrant import KEY, FakeQdrant


@pytest.fixture
async def server() -> AsyncIterator[FakeQdrant]:
    async with FakeQdrant() as fake:
        yield fake


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def node(server: FakeQdrant, session: aiohttp.ClientSession) -> Node:
    return Node(session, server.url, KEY)


@pytest.fixture
async def store(server: FakeQdrant) -> AsyncIterator[QdrantVectors]:
    made = await QdrantVectors.open(server.url, key=KEY)
    await put(made, ACME, *PAGES)
    await put(made, OTHER, PAGES[0])
    yield made
    await made.close()


async def test_an_index_is_put_back_as_it_was_on_a_server_that_lost_it(
    server: FakeQdrant, store: QdrantVectors, node: Node, tmp_path: Path, clock: StillClock
) -> None:
    made = await take_all([node], tmp_path, clock)
    assert server.snapshots == {}, "the server's disk is not filled"
    saved = {one.namespace["tenant_id"]: one for one in listed(made)}
    assert {tenant: one.points for tenant, one in saved.items()} == {"acme": 3, "other": 1}
    await server.forget()
    restored = await restore([node], made)
    assert [one.whole for one in restored] == [True, True]
    assert (await ask(store, ACME, "emergency line staffed"))[0] == PAGES[2].text
    assert await store.count(OTHER) == 1


async def test_what_came_in_since_goes_and_what_went_comes_back(
    store: QdrantVectors, node: Node, tmp_path: Path, clock: StillClock
) -> None:
    await store.delete(ACME, ["prices"])
    made = await take_all([node], tmp_path, clock)
    await put(store, ACME, PAGES[0])
    await store.delete(ACME, ["refunds"])
    await restore([node], made)
    assert set(await store.chunk_ids(ACME)) == {"refunds", "support"}


async def test_only_whole_folders_count_and_the_latest_are_kept(
    store: QdrantVectors, node: Node, tmp_path: Path, clock: StillClock
) -> None:
    made = []
    for _ in range(3):
        made.append(await take_all([node], tmp_path, clock))
        clock.advance(seconds=60)
    (tmp_path / "20000101T000000Z").mkdir()
    (tmp_path / "notes").mkdir()
    assert taken(tmp_path) == made
    assert keep(tmp_path, 2) == made[:1]
    assert taken(tmp_path) == made[1:]
    assert (tmp_path / "notes").is_dir()


async def test_a_fault_in_the_middle_leaves_no_folder_and_nothing_on_the_server(
    server: FakeQdrant, store: QdrantVectors, node: Node, tmp_path: Path, clock: StillClock
) -> None:
    server.refuse_next(500, {"status": {"error": "disk full"}}, where=".snapshot")
    with pytest.raises(Unavailable):
        await take_all([node], tmp_path, clock)
    assert list(tmp_path.iterdir()) == []
    assert server.snapshots == {}
    await server.stop()
    with pytest.raises(Unavailable, match="does not answer"):
        await take_all([node], tmp_path, clock)
    assert list(tmp_path.iterdir()) == []


async def test_a_damaged_file_or_another_number_of_nodes_is_seen_before_anything_is_put_back(
    server: FakeQdrant, store: QdrantVectors, node: Node, tmp_path: Path, clock: StillClock
) -> None:
    made = await take_all([node], tmp_path, clock)
    with pytest.raises(InvalidInput, match="of 1 nodes"):
        await restore([node, node], made)
    last = sorted(made.glob("*.snapshot"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(InvalidInput, match=f"{last.name} is missing or damaged"):
        await restore([node], made)
    assert server.count("POST", "/snapshots/upload") == 0
    (made / LIST).unlink()
    with pytest.raises(InvalidInput, match="no folder of snapshots"):
        listed(made)
