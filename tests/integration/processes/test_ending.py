"""Real processes that are asked to end: what was under way ends well, and what is new finds another process."""

import asyncio
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
import pytest

from app.container import Parts, migrate_database, open_container
from app.governance.keys import create_key
from app.ids import new_id
from app.principal import Role, Tier
from app.provision import provision_tenant
from app.settings import Settings, load_settings
from tests.support.jobs import until
from tests.support.server import Server, free_port

CLIENTS = 8
# Long enough for a busy machine to answer in; what is done sooner ends sooner.
DRAIN_S, GRACE_S = 4.0, 40.0


async def furnished(settings: Settings) -> str:
    """The key of a tenant in a database with every table."""
    await migrate_database(settings)
    async with open_container(settings, Parts.COMMAND) as container, container.db.operator_transaction() as session:
        await provision_tenant(container, session, "acme", "Acme")
        return (await create_key(session, "acme", Role.ADMIN, Tier.PRO, "test", container.clock())).secret


@dataclass
class Load:
    """Clients that read and write, on connections that they keep, until the port is closed."""

    address: str
    key: str
    answers: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    async def client(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        async with aiohttp.ClientSession(self.address, headers=headers) as session:
            while True:
                try:
                    await self._turn(session)
                except aiohttp.ClientOSError as error:
                    # Refused; or reset by the kernel, which had queued it as the port closed: nobody read from it.
                    if await probe(self.address, "/healthz"):
                        self.broken.append(repr(error))
                    return
                except aiohttp.ClientError as error:
                    self.broken.append(repr(error))

    async def _turn(self, session: aiohttp.ClientSession) -> None:
        lead = {"name": "Ada", "email": f"{new_id('who')}@example.com", "message": "How much is a sensor?"}
        async with session.get("/v1/leads/counts") as answer:
            self.answers[answer.status] += 1
        async with session.post("/v1/leads", json=lead, headers={"Idempotency-Key": new_id("once")}) as answer:
            self.answers[answer.status] += 1


async def probe(address: str, path: str) -> int:
    """Its status; 0 where the port is closed."""
    try:
        async with aiohttp.request("GET", f"{address}{path}") as answer:
            return answer.status
    except aiohttp.ClientOSError:
        return 0


class SlowUpload:
    """A request whose body is sent in two parts."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._body = orjson.dumps({"name": "Lea", "email": "late@example.com", "message": "Is there still time?"})
        head = ("POST /v1/leads HTTP/1.1", "Host: t", f"Authorization: Bearer {key}", "Content-Type: application/json")
        lines = (*head, "Idempotency-Key: late", f"Content-Length: {len(self._body)}", "", "")
        self._head = "\r\n".join(lines).encode()

    async def begin(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._head + self._body[:10])
        await self._writer.drain()

    async def end(self) -> bytes:
        """The answer's first line."""
        self._writer.write(self._body[10:])
        line = await self._reader.readline()
        self._writer.close()
        return line


@pytest.mark.timeout(180)
async def test_a_server_under_load_ends_without_a_failed_request(tmp_path: Path) -> None:
    key = await furnished(load_settings({}, home=tmp_path, log_level="ERROR"))
    times = {"TRELLIS_DRAIN_S": str(DRAIN_S), "TRELLIS_SHUTDOWN_GRACE_S": str(GRACE_S)}
    with Server(tmp_path, free_port(), TRELLIS_LOG_LEVEL="WARNING", TRELLIS_WORKER="false", **times) as server:
        await asyncio.to_thread(server.wait_ready)
        load, upload = Load(server.address, key), SlowUpload(server.port, key)
        await upload.begin()
        clients = [asyncio.create_task(load.client()) for _ in range(CLIENTS)]
        await until(lambda: load.answers[201] > CLIENTS, "the load runs")
        server.process.terminate()
        await until(lambda: seen(server.address, "/readyz", 503), "the server says that it ends")
        before = load.answers[201]
        assert await probe(server.address, "/healthz") == 200  # it lives: nothing has to restart it
        await asyncio.gather(*clients)
        assert load.answers[201] > before + CLIENTS  # it served on while it said so
        assert (await upload.end()).startswith(b"HTTP/1.1 201")  # what was under way as the port closed
        assert await asyncio.to_thread(server.process.wait, GRACE_S + 5) == 0
    assert set(load.answers) == {200, 201}, load.answers
    assert load.broken == []
    with sqlite3.connect(tmp_path / "trellis.db") as database:
        # What was done was answered: also where a connection was reset.
        assert database.execute("SELECT count(*) FROM leads").fetchone() == (load.answers[201] + 1,)
    assert "Traceback" not in (tmp_path / "server.log").read_text()


async def seen(address: str, path: str, status: int) -> bool:
    return await probe(address, path) == status


async def test_a_process_that_is_still_starting_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    with Server(tmp_path, free_port()) as server:
        caught = f"/proc/{server.process.pid}/status"
        await until(lambda: handles_sigterm(Path(caught).read_text()), "it has begun")
        assert await asyncio.to_thread(server.terminate) == 143


def handles_sigterm(status: str) -> bool:
    mask = next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1]
    return bool(int(mask, 16) & 1 << 14)
