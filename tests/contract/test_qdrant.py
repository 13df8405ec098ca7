"""What goes over the wire to a Qdrant server, and what is said when it does not answer as it should."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from qdrant_client.grpc import HealthCheckReply

from app.errors import ConfigError, Unavailable
from app.knowledge.qdrant import QdrantVectors, Shape
from tests.contract.test_vectors import ACME, PAGES, ask, put
from tests.support.fakes.qdrant import KEY, FakeQdrant
from tests.support.fakes.server import Seen
from tests.support.vectors import DIMENSION, embed_words


@pytest.fixture
async def server() -> AsyncIterator[FakeQdrant]:
    async with FakeQdrant() as fake:
        yield fake


@pytest.fixture
async def store(server: FakeQdrant) -> AsyncIterator[QdrantVectors]:
    made = await QdrantVectors.open(server.url, key=KEY)
    yield made
    await made.close()


def is_upsert(seen: Seen) -> bool:
    return seen.method == "PUT" and seen.path.endswith("/points")


async def test_every_request_carries_the_key_and_waits_for_what_it_writes(
    server: FakeQdrant, store: QdrantVectors
) -> None:
    await put(store, ACME, *PAGES)
    assert (await ask(store, ACME, "emergency line staffed"))[0] == PAGES[2].text
    await store.delete(ACME, ["prices"])
    await store.delete_chunks(ACME, [PAGES[1].id])
    assert await store.chunk_ids(ACME) == {"support": {PAGES[2].id}}
    assert {seen.headers.get("api-key") for seen in server.seen} == {KEY}
    writes = [seen for seen in server.seen if seen.path.endswith(("/delete", "/index")) or is_upsert(seen)]
    assert len(writes) == 6
    assert {seen.query["wait"] for seen in writes} == {"true"}


async def test_connections_are_kept_for_the_next_question(server: FakeQdrant, store: QdrantVectors) -> None:
    await put(store, ACME, *PAGES)
    await ask(store, ACME, "emergency line staffed")
    before = len(server.seen)
    known = {seen.peer for seen in server.seen}
    for _ in range(3):
        assert (await ask(store, ACME, "emergency line staffed"))[0] == PAGES[2].text
    asked = server.seen[before:]
    assert len(asked) >= 6
    assert {seen.peer for seen in asked} <= known


async def test_a_collection_is_made_as_it_was_tuned(server: FakeQdrant) -> None:
    store = await QdrantVectors.open(server.url, key=KEY, shape=Shape(replicas=2, int8=True))
    await store.ensure(ACME, 256)
    await store.ensure(ACME, 256)
    made = [seen.json for seen in server.seen if seen.method == "PUT" and not seen.path.endswith("/index")]
    assert len(made) == 1
    assert made[0] | {"metadata": None} == {
        "vectors": {"dense": {"size": 256, "distance": "Cosine"}},
        "hnsw_config": {"m": 16, "ef_construct": 200, "full_scan_threshold": 10_000},
        "optimizers_config": {"default_segment_number": 2},
        "quantization_config": {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}},
        "replication_factor": 2,
        "write_consistency_factor": 2,
        "metadata": None,
    }
    (indexes,) = server.schemas.values()
    words = indexes.pop("words")
    assert indexes == {"tags": {"type": "keyword"}, "document_id": {"type": "keyword"}}
    assert (words["scoring"], words["ascii_folding"]) == (True, True)
    assert words["stemmer"] == {"type": "snowball", "language": "english"}
    assert {"english", "german", "danish"} <= set(words["stopwords"]["languages"])
    await store.search(ACME, np.ones((1, 256), np.float32), "", 3)
    asked = next(seen.json for seen in server.seen if seen.path.endswith("/query/batch"))
    assert asked["searches"][0]["params"] == {"quantization": {"rescore": True, "oversampling": 2.0}}
    await store.close()


async def test_an_index_that_was_left_without_its_fields_gets_them(server: FakeQdrant, store: QdrantVectors) -> None:
    await store.ensure(ACME, DIMENSION)
    (fields,) = server.schemas.values()
    del fields["tags"]
    await store.ensure(ACME, DIMENSION)
    assert set(fields) == {"words", "tags", "document_id"}


async def test_a_collection_that_another_process_made_first_is_taken(server: FakeQdrant, store: QdrantVectors) -> None:
    await store.ensure(ACME, DIMENSION)
    server.refuse_next(404, {"status": {"error": "not yet"}, "time": 0})
    await store.ensure(ACME, DIMENSION)
    assert server.count("PUT", "/collections/") == 3 + 1 + 1 + 3
    await put(store, ACME, *PAGES)
    assert await store.count(ACME) == 3


async def test_a_wrong_key_and_an_old_server_stop_the_start(server: FakeQdrant) -> None:
    with pytest.raises(ConfigError, match="TRELLIS_VECTORS_KEY"):
        await QdrantVectors.open(server.url, key="wrong")
    server.version = "1.19.3"
    with pytest.raises(ConfigError, match=r"1\.19\.3: at least 1\.20"):
        await QdrantVectors.open(server.url, key=KEY)


async def test_nothing_that_listens_is_one_sentence() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await QdrantVectors.open("http://127.0.0.1:9", key=KEY)


@pytest.mark.parametrize(("status", "body"), [(500, {"status": {"error": "secret text"}}), (503, b"<html>secret")])
async def test_an_error_of_the_server_says_nothing_of_what_was_sent(
    server: FakeQdrant, store: QdrantVectors, status: int, body: object
) -> None:
    await put(store, ACME, *PAGES)
    server.refuse_next(status, body, where="/query/batch")
    with pytest.raises(Unavailable) as caught:
        await ask(store, ACME, "emergency")
    assert caught.value.detail == f"The vector server answered {status}."
    assert await ask(store, ACME, "emergency")


async def test_a_busy_server_says_when_to_come_back(server: FakeQdrant, store: QdrantVectors) -> None:
    server.refuse_next(429, {"status": {"error": "slow down"}}, {"Retry-After": "7"})
    with pytest.raises(Unavailable) as caught:
        await store.count(ACME)
    assert caught.value.retry_after == 7


@pytest.mark.parametrize("body", [b"{", {"result": {"points": 3}, "status": "ok"}, b"\xff\xfe"])
async def test_an_answer_in_another_shape_is_an_error_not_an_empty_index(
    server: FakeQdrant, store: QdrantVectors, body: object
) -> None:
    await put(store, ACME, *PAGES)
    server.refuse_next(200, body, where="/query/batch")
    with pytest.raises(Unavailable, match="not in its own language"):
        await ask(store, ACME, "emergency")


async def test_a_lost_answer_is_unavailable(server: FakeQdrant, store: QdrantVectors) -> None:
    await put(store, ACME, *PAGES)
    server.lose_next_answer("/query/batch")
    with pytest.raises(Unavailable, match="does not answer"):
        await ask(store, ACME, "emergency")


async def test_a_server_that_hangs_is_given_up(server: FakeQdrant, store: QdrantVectors) -> None:
    await put(store, ACME, *PAGES)
    hasty = await QdrantVectors.open(server.url, key=KEY, timeout_s=1)
    server.delay_s = 60
    for work in (
        hasty.count(ACME),
        hasty.chunk_ids(ACME),
        hasty.delete(ACME, ["prices"]),
        ask(hasty, ACME, "emergency"),
        put(hasty, ACME, *PAGES),
    ):
        with pytest.raises(Unavailable, match="does not answer"):
            await asyncio.wait_for(work, 30)
    await hasty.close()
    server.delay_s = 0


async def test_an_answer_that_trickles_is_given_up_too(server: FakeQdrant, store: QdrantVectors) -> None:
    await store.close()
    store = await QdrantVectors.open(server.url, key=KEY, timeout_s=1)
    server.trickle_s = 0.3
    with pytest.raises(Unavailable, match="does not answer"):
        await store.count(ACME)
    await store.close()


async def test_with_copies_most_must_have_a_write_and_agree_on_what_repairs_go_by(server: FakeQdrant) -> None:
    store = await QdrantVectors.open(server.url, key=KEY, shape=Shape(replicas=3, shards=6))
    await put(store, ACME, *PAGES)
    (made,) = [seen.json for seen in server.seen if seen.method == "PUT" and "vectors" in seen.json]
    assert (made["replication_factor"], made["write_consistency_factor"], made["shard_number"]) == (3, 2, 6)
    await store.delete(ACME, ["prices"])
    await store.chunk_ids(ACME)
    await ask(store, ACME, "emergency")
    asked = {seen.path.rpartition("/")[2]: dict(seen.query) for seen in server.seen if "/points" in seen.path}
    assert asked["delete"] == {"wait": "true", "ordering": "medium", "timeout": "5"}
    assert asked["scroll"] == {"consistency": "majority", "timeout": "5"}
    assert asked["batch"] == {"timeout": "5"}, "a search asks one copy: a passage that is a moment old is no error"
    await store.close()


async def test_a_key_that_is_refused_while_we_run_is_the_servers_fault_for_the_moment(
    server: FakeQdrant, store: QdrantVectors
) -> None:
    await put(store, ACME, *PAGES)
    server.key = "another"
    with pytest.raises(Unavailable, match="TRELLIS_VECTORS_KEY"):
        await ask(store, ACME, "emergency")
    server.key = KEY
    assert await ask(store, ACME, "emergency")


async def test_a_collection_that_went_is_empty_and_made_anew_by_the_next_write(
    server: FakeQdrant, store: QdrantVectors
) -> None:
    await put(store, ACME, *PAGES)
    await server.forget()
    assert await ask(store, ACME, "emergency") == []
    assert await store.chunk_ids(ACME) == {}
    await put(store, ACME, *PAGES)
    assert await store.count(ACME) == 3


async def test_a_server_that_goes_and_comes_back_is_asked_again(server: FakeQdrant, store: QdrantVectors) -> None:
    await put(store, ACME, *PAGES)
    await server.stop()
    for _ in range(2):
        with pytest.raises(Unavailable, match="does not answer"):
            await ask(store, ACME, "emergency")
    await server.start_again()
    assert (await ask(store, ACME, "emergency line"))[0] == PAGES[2].text


async def test_a_vector_of_another_length_is_refused_before_it_is_sent(
    server: FakeQdrant, store: QdrantVectors
) -> None:
    await store.ensure(ACME, DIMENSION)
    other = await QdrantVectors.open(server.url, key=KEY)
    with pytest.raises(ValueError, match=f"of dimension 2 for an index of dimension {DIMENSION}"):
        await other.upsert(ACME, PAGES[:1], np.array([[0.6, 0.8]], np.float32))
    await other.close()
    await store.upsert(ACME, PAGES[:1], embed_words(PAGES[0].indexed_text)[None])
    assert await store.count(ACME) == 1


class Refusing(grpc.GenericRpcHandler):
    """Says its version over gRPC, refuses every other call in one way, and remembers which were made."""

    def __init__(self) -> None:
        self.code = grpc.StatusCode.NOT_FOUND
        self.asked: list[tuple[str, Any]] = []

    def service(self, call: Any) -> Any:
        async def refuse(_request: bytes, context: Any) -> bytes:
            self.asked.append((call.method, dict(context.invocation_metadata()).get("api-key")))
            if call.method != "/qdrant.Qdrant/HealthCheck":
                await context.abort(self.code, "secret text")
            return HealthCheckReply(title="qdrant", version="1.20.0").SerializeToString()

        return grpc.unary_unary_rpc_method_handler(refuse)


@pytest.fixture
async def refusing() -> AsyncIterator[tuple[Refusing, int]]:
    handler, server = Refusing(), grpc.aio.server()
    server.add_generic_rpc_handlers([handler])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield handler, port
    await server.stop(None)


async def test_over_grpc_refusals_mean_what_they_mean_over_http(
    server: FakeQdrant, refusing: tuple[Refusing, int]
) -> None:
    handler, port = refusing
    store = await QdrantVectors.open(server.url, key=KEY, grpc_port=port)
    assert await store.count(ACME) == 0, "no such collection: empty"
    assert await ask(store, ACME, "emergency") == []
    for code, said in (
        (grpc.StatusCode.UNAUTHENTICATED, "TRELLIS_VECTORS_KEY"),
        (grpc.StatusCode.INTERNAL, "answered 500"),
        (grpc.StatusCode.UNAVAILABLE, "does not answer"),
    ):
        handler.code = code
        with pytest.raises(Unavailable, match=said) as caught:
            await store.count(ACME)
        assert "secret" not in caught.value.detail
    assert {key for _, key in handler.asked} == {KEY}
    assert "/qdrant.Points/QueryBatch" in {method for method, _ in handler.asked}
    await store.close()


async def test_chunks_are_counted_once_for_many_searches_and_again_after_a_write(
    server: FakeQdrant, store: QdrantVectors
) -> None:
    await put(store, ACME, *PAGES)
    for _ in range(3):
        assert await ask(store, ACME, "emergency line staffed")
    assert sum(seen.path.endswith("/count") for seen in server.seen) == 1
    await store.delete_chunks(ACME, [PAGES[1].id])
    assert await ask(store, ACME, "emergency line staffed")
    assert sum(seen.path.endswith("/count") for seen in server.seen) == 2
