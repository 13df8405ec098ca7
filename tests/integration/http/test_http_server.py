"""The room behind the real server: what only shows on a socket."""

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
import uvicorn

from tests.support.http_app import Container, build, effects, key_for

TEN_MB = 10 << 20


@pytest.fixture
async def base(db, clock) -> AsyncIterator[str]:
    """The address of a running server."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(build(Container(db, clock)), log_config=None, http="httptools", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


@pytest.fixture
async def web(base, db, clock) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {await key_for(db, clock, 'acme')}"}
    async with aiohttp.ClientSession(base, headers=headers) as session:
        yield session


async def stream(size: int):
    for _ in range(size // 65536):
        yield b"x" * 65536


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("kind", ["application/json", "text/csv"])
async def test_ten_megabytes_get_their_413_through(web, announced, kind):
    for _ in range(5):
        body = b"x" * TEN_MB if announced else stream(TEN_MB)
        async with web.post("/v1/items", data=body, headers={"Content-Type": kind}) as answer:
            assert answer.status == 413
            assert (await answer.json(content_type=None))["type"] == "urn:trellis:problem:too-large"
    async with web.get("/v1/items/who") as answer:
        assert answer.status == 200


async def test_a_client_that_waits_for_leave_is_refused_before_it_sends(base, web):
    host, port = base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST /v1/items HTTP/1.1\r\nHost: x\r\nAuthorization: {web.headers['Authorization']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {TEN_MB}\r\nExpect: 100-continue\r\n\r\n".encode()
    )
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_body_in_many_small_chunks_is_read_and_repeated(web, db):
    async def drops():
        for byte in b'{"name": "in drops"}':
            yield bytes([byte])
            await asyncio.sleep(0)

    headers = {"Content-Type": "application/json", "Idempotency-Key": "k1"}
    bodies = []
    for _ in range(2):
        async with web.post("/v1/items", data=drops(), headers=headers) as answer:
            assert answer.status == 201
            bodies.append(await answer.read())
    assert bodies[0] == bodies[1]
    assert await effects(db) == 1


async def test_a_client_that_hangs_up_in_its_body_has_no_effect(base, web, db):
    host, port = base.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST /v1/items HTTP/1.1\r\nHost: x\r\nAuthorization: {web.headers['Authorization']}\r\n"
        'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"name": "half'.encode()
    )
    await writer.drain()
    writer.close()
    async with web.get("/v1/items/who") as answer:
        assert answer.status == 200
    assert await effects(db) == 0


async def test_bytes_that_no_header_may_hold_do_no_harm(base):
    host, port = base.removeprefix("http://").split(":")
    for header in (
        b"X-Request-Id: \xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8",
        b"X-API-Key: \xff",
        b"Authorization: Bearer \xc3\x28",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /v1/items/who HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")
        status = await asyncio.wait_for(reader.readline(), 5)
        assert status.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 400 "))
        writer.close()
