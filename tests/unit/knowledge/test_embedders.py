"""WordLlama in the process, and the OpenAI-compatible server."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from app.errors import ConfigError, Unavailable
from app.knowledge.embedders import OpenAiEmbedder, WordLlamaEmbedder
from tests.support.on_loopback import on_loopback

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(scope="module")
def wordllama() -> WordLlamaEmbedder:
    return WordLlamaEmbedder()


async def test_wordllama_gives_unit_vectors_that_know_some_english(wordllama: WordLlamaEmbedder) -> None:
    vectors = await wordllama.embed(["How much does it cost?", "What is the price?", "The cat sleeps on the sofa"])
    assert vectors.shape == (3, 256)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


async def test_a_text_without_a_token_is_a_row_of_zeros_not_nan(wordllama: WordLlamaEmbedder) -> None:
    vectors = await wordllama.embed(["", "price"])
    assert not vectors[0].any()
    assert vectors[1].any()
    assert (await wordllama.embed([])).shape == (0, 256)


async def test_many_texts_off_the_loop_are_the_same_as_one_on_it(wordllama: WordLlamaEmbedder) -> None:
    texts = [f"sentence number {n} about cold rooms " * 5 for n in range(80)]
    together = await wordllama.embed(texts)
    alone = np.concatenate([await wordllama.embed([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-5


async def test_a_long_text_does_not_hold_the_loop(
    wordllama: WordLlamaEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    used: list[str] = []
    embed = wordllama._embed
    monkeypatch.setattr(
        wordllama, "_embed", lambda texts: (used.append(threading.current_thread().name), embed(texts))[1]
    )
    await wordllama.embed(["short"])
    await wordllama.embed(["long " * 1000])
    assert used[0] == threading.main_thread().name
    assert used[1].startswith("embedder")


def test_loading_opens_no_connection_and_leaves_logging_alone() -> None:
    program = (
        "import logging, socket\n"
        "def refuse(*_): raise SystemExit('tried the network')\n"
        "socket.socket.connect = refuse\n"
        "from app.knowledge.embedders import WordLlamaEmbedder\n"
        "WordLlamaEmbedder()\n"
        "assert not logging.getLogger().handlers and logging.getLogger().level == logging.WARNING\n"
    )
    environment = {"PATH": "", "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


class Server:
    """An embeddings server that keeps what it was sent and answers what it is told to."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.answers: list[web.Response] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(request.headers)
        if self.answers:
            return self.answers.pop(0)
        rows = [{"index": n, "embedding": [float(len(text)), 1.0, 0.0]} for n, text in enumerate(body["input"])]
        return web.json_response({"data": rows[::-1], "model": body["model"]})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    fake = Server()
    app = web.Application()
    app.router.add_post("/v1/embeddings", fake.handle)
    async with on_loopback(app) as address:
        fake.url = f"{address}/v1"
        yield fake


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def remote(server: Server, session: aiohttp.ClientSession) -> OpenAiEmbedder:
    return OpenAiEmbedder(session, f"{server.url}/", "small", 3, api_key="sk-secret", timeout_s=5)


async def test_the_wire_is_openais(remote: OpenAiEmbedder, server: Server) -> None:
    vectors = await remote.embed(["one", "three"])
    assert server.requests == [{"model": "small", "input": ["one", "three"], "encoding_format": "float"}]
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"
    assert vectors[0] == pytest.approx(np.array([3, 1, 0]) / np.sqrt(10))
    assert vectors[1] == pytest.approx(np.array([5, 1, 0]) / np.sqrt(26))


async def test_many_texts_go_in_batches_and_empty_ones_are_not_sent(remote: OpenAiEmbedder, server: Server) -> None:
    vectors = await remote.embed([*["x"] * 70, "  "])
    assert [len(request["input"]) for request in server.requests] == [64, 6]
    assert not vectors[70].any()
    assert (await remote.embed([])).shape == (0, 3)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_passing_failure_is_tried_again(remote: OpenAiEmbedder, server: Server, status: int) -> None:
    server.answers = [web.Response(status=status, headers={"Retry-After": "0"})]
    assert (await remote.embed(["one"])).shape == (1, 3)
    assert len(server.requests) == 2


async def test_a_lasting_failure_is_unavailable(remote: OpenAiEmbedder, server: Server) -> None:
    server.answers = [web.Response(status=503, headers={"Retry-After": "0"}) for _ in range(5)]
    with pytest.raises(Unavailable, match="answered 503"):
        await remote.embed(["one"])
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda: web.Response(status=401, text="bad key"), "refused model 'small' .401.: bad key"),
        (lambda: web.Response(text="<html>"), "not JSON"),
        (lambda: web.json_response({"rows": []}), "not answer in the shape"),
        (lambda: web.json_response({"data": [{"index": 0, "embedding": [1.0, 2.0]}]}), "vectors of 2 numbers"),
    ],
)
async def test_a_wrong_server_is_named_once_without_the_key(
    remote: OpenAiEmbedder, server: Server, answer: Callable[[], web.Response], said: str
) -> None:
    server.answers = [answer()]
    with pytest.raises(ConfigError, match=said) as caught:
        await remote.embed(["one"])
    assert "sk-secret" not in caught.value.detail
    assert len(server.requests) == 1


async def test_nobody_there_is_unavailable(session: aiohttp.ClientSession) -> None:
    closed = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = closed.sockets[0].getsockname()[1]
    closed.close()
    await closed.wait_closed()
    embedder = OpenAiEmbedder(session, f"http://127.0.0.1:{port}/v1", "small", 3, timeout_s=1)
    with pytest.raises(Unavailable, match="does not answer"):
        await embedder.embed(["one"])


def test_models_of_another_name_or_size_are_not_confused() -> None:
    made = [OpenAiEmbedder(None, "http://x/v1", name, size).name for name, size in (("a", 3), ("a", 4), ("b", 3))]  # type: ignore[arg-type]
    assert len(set(made)) == 3
