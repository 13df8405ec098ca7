"""A PoC moves to PostgreSQL, Redis and a vector server while it is written, and back: `make promote-demo`.

    python -m tests.perf.promotion_demo [--leads 100000] [--documents 10000]

The servers are real (PostgreSQL with a standby, PgBouncer, a Redis Cluster), but for the vector server, which is the
tests' own with Qdrant's wire. Prints what was lost, doubled and measured; ends with 1 where anything was lost.
"""

import argparse
import asyncio
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from app.promotion.command import open_side
from app.promotion.side import Gate
from app.settings import Settings, load_settings, load_settings_file
from tests.chaos.house import TENANT, furnish
from tests.perf.figures import record
from tests.perf.promotion_filling import fill_documents, fill_leads
from tests.perf.promotion_writer import Writer, compared
from tests.support.fakes.qdrant import KEY
from tests.support.pgbouncer import running_pgbouncer
from tests.support.postgres import PostgresServer, open_server
from tests.support.redis import running_cluster
from tests.support.server import ROOT, Server, environment, free_port

DATA = Path(os.environ.get("TRELLIS_DATA", "../shared/data"))
BOT = "library"
PER_SECOND = 5.0
BEFORE_S = 15.0
RUNS = 5
QUESTIONS = ("How many days of leave do I have?", "What does the Operate plan cost?")
NO_LIMIT = {"TRELLIS_TENANT_DAILY_TOKENS": "1000000000", "TRELLIS_TENANT_DAILY_USD": "1000000"}


@dataclass(frozen=True)
class Small:
    """The new side: its settings as a file of lines, and its primary."""

    lines: Mapping[str, str]
    file: Path
    postgres: PostgresServer
    database: str

    @property
    def settings(self) -> Settings:
        return load_settings_file(self.file)

    def leads(self) -> list[tuple[str, str]]:
        with self.postgres.connect(self.database) as connection:
            rows: list[tuple[str, str]] = connection.execute("SELECT external_id, id FROM leads").fetchall()
        return rows


@contextmanager
def servers(folder: Path, vectors_url: str) -> Iterator[Small]:
    """The new side's servers, with a database that `trellis migrate` alone has seen."""
    with ExitStack() as stack:
        postgres = stack.enter_context(open_server(fast=False))
        standby = stack.enter_context(postgres.replica())
        pooler = stack.enter_context(running_pgbouncer(postgres.port, pool_size=20))
        reading = stack.enter_context(running_pgbouncer(standby.port, pool_size=20))
        redis = stack.enter_context(running_cluster(folder / "redis", replicas=1))
        made = postgres.new_database(migrated=True)
        lines = {
            "TRELLIS_PHASE": "small",
            "TRELLIS_HOME": str(folder / "small"),
            "TRELLIS_DATABASE_URL": pooler.url(made.name),
            "TRELLIS_DATABASE_READER_URL": reading.url(made.name),
            "TRELLIS_DATABASE_DIRECT_URL": made.app_url,
            "TRELLIS_DATABASE_OWNER_URL": made.owner_url,
            "TRELLIS_DATABASE_POOLED": "true",
            "TRELLIS_DATABASE_POOL_SIZE": "5",
            "TRELLIS_REDIS_URL": redis.url,
            "TRELLIS_VECTORS_URL": vectors_url,
            "TRELLIS_VECTORS_KEY": KEY,
        }
        (folder / "small").mkdir()
        yield Small(lines, folder / "small.env", postgres, made.name)


@asynccontextmanager
async def vector_server() -> AsyncIterator[str]:
    """Its address."""
    command = [sys.executable, "-m", "tests.support.fakes.qdrant_process"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


async def prepare(home: Path, leads: int, documents: int) -> str:
    """The old side, filled; an admin's key."""
    house = await furnish(home, {}, bots=("handbook",))
    with Server(home, free_port(), **NO_LIMIT) as server:
        await asyncio.to_thread(server.wait_ready)
        lead = {"external_id": "first", "name": "Ada", "email": "ada@example.org", "message": "What does it cost?"}
        path = f"/v1/leads/{(await call(server, '/v1/leads', house.key, lead))['lead']['id']}"
        while not (await call(server, path, house.key))["decisions"]:
            await asyncio.sleep(0.1)
        assert await asyncio.to_thread(server.terminate) == 0
    await asyncio.to_thread(fill_leads, home / "trellis.db", leads, leads // 10)
    await fill_documents(load_settings({}, home=home, log_level="ERROR"), TENANT, BOT, documents, DATA)
    return house.key


async def promote(home: Path, small: Small, *arguments: str) -> dict[str, Any]:
    """The command's report, with its `runs`: one that gives up says to run it again. It prints to our output."""
    command = ["promote", "--from", "poc", "--to", "small", "--target", str(small.file), *arguments]
    (home / "promotion.json").unlink(missing_ok=True)
    for run in range(1, RUNS + 1):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.cli", *command, cwd=ROOT, env=environment(home, free_port(), **NO_LIMIT)
        )
        if await process.wait() == 0:
            report: dict[str, Any] = orjson.loads((home / "promotion.json").read_bytes())
            return report | {"runs": run}
    raise RuntimeError(f"trellis {' '.join(command)} failed {RUNS} times")


async def open_gate(settings: Settings) -> float:
    """When the side takes writes, after it was closed (monotonic seconds)."""
    side = open_side(settings)
    try:
        for wanted in (Gate.CLOSED, Gate.OPEN):
            while await side.gate() is not wanted:
                await asyncio.sleep(0.1)
        return time.monotonic()
    finally:
        await side.close()


@asynccontextmanager
async def served(home: Path, port: int, lines: Mapping[str, str]) -> AsyncIterator[Server]:
    with Server(home, port, **(NO_LIMIT | dict(lines))) as server:
        await asyncio.to_thread(server.wait_ready)
        yield server


async def call(server: Server, path: str, key: str, body: Any = None) -> Any:
    """The answer's JSON."""
    data = None if body is None else orjson.dumps(body)
    return await asyncio.to_thread(server.call, path, key, data, Content_Type="application/json")


async def put_pages(server: Server, key: str, name: str, count: int) -> None:
    """Until they can be found."""
    for number in range(count):
        text = f"The {name} lighthouse number {number} burns {number * 3} litres of whale oil."
        page = {"slug": f"{name}-{number}", "title": f"{name} {number}", "text": text}
        await call(server, f"/v1/bots/{BOT}/documents", key, page)
    async with asyncio.timeout(120):
        while not await found(server, key, name, count):
            await asyncio.sleep(0.2)


async def found(server: Server, key: str, name: str, count: int) -> bool:
    """Whether a search has the last of the pages first."""
    asked = f"/v1/bots/{BOT}/search?q={name}+lighthouse+number+{count - 1}&limit=10"
    passages = (await call(server, asked, key))["items"]
    return f"{name}-{count - 1}" in [passage["slug"] for passage in passages]


def tell(name: str, report: Mapping[str, Any], writer: Writer, times: Sequence[float], seen: tuple[int, int]) -> None:
    """`times`: when the writer began, when the move began, when it had switched, and when a server was there again."""
    figures = {step["name"]: step["figures"] for step in report["steps"]}
    vectors, began, moved, switched, again = figures["vectors"], *times
    record(
        f"promotion_{name}",
        rows=report["rows"],
        rows_lost=seen[0],
        rows_doubled=seen[1],
        rows_per_s=report["rows_per_s"],
        vectors=vectors["embedded"],
        vectors_per_s=vectors["per_second"],
        vectors_in_switch_s=vectors["seconds_in_switch"],
        changes_applied=report["changes_applied"],
        switch_s=report["switch_s"],
        total_s=report["total_s"],
        runs=report["runs"],
        **{name: figures["answers"][name] for name in ("overlap", "same_answers") if name in figures["answers"]},
        conversations=figures["memory"].get("conversations", 0),
        writes=len(writer.acknowledged),
        write_p99_before_ms=writer.p99_ms(began, moved),
        write_p99_during_ms=writer.p99_ms(moved, switched),
        longest_write_s=writer.longest_s(moved, again),
        server_there_after_s=again - switched,
    )


async def run(leads: int, documents: int) -> int:
    with tempfile.TemporaryDirectory(prefix="trellis-promotion-") as name:
        folder = Path(name)
        home = folder / "poc"
        home.mkdir()
        key = await prepare(home, leads, documents)
        async with vector_server() as vectors_url:
            with servers(folder, vectors_url) as small:
                secret = {"TRELLIS_SESSION_SECRET": (home / "console.secret").read_text().strip()}
                lines = {**small.lines, **secret}
                small.file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
                return await there_and_back(home, small, lines, key)


async def there_and_back(home: Path, small: Small, lines: Mapping[str, str], key: str) -> int:
    """How many rows were lost or doubled."""
    ports = free_port(), free_port()
    writer = Writer([f"http://127.0.0.1:{port}" for port in ports], key, PER_SECOND)
    faults = 0
    async with served(home, ports[0], {}) as old:
        for question in QUESTIONS:
            await call(old, "/v1/bots/handbook/chat", key, {"message": question})
        writing = asyncio.create_task(writer.run())
        began = time.monotonic()
        await asyncio.sleep(BEFORE_S)
        moved = time.monotonic()
        moving = asyncio.create_task(promote(home, small))
        opened = asyncio.create_task(open_gate(small.settings))
        pages = asyncio.create_task(put_pages(old, key, "northern", 20))
        await asyncio.wait({moving, opened}, return_when=asyncio.FIRST_COMPLETED)
        if moving.done():
            moving.result()
        async with served(home.parent / "small", ports[1], lines) as new:
            again = time.monotonic()
            await pages
            report = await moving
            await writer.wait_for(20)
            seen = compared(writer.acknowledged, small.leads())
            tell("up", report, writer, (began, moved, await opened, again), seen)
            faults += sum(seen) + (not await found(new, key, "northern", 20))
            await put_pages(new, key, "southern", 20)
            since = time.monotonic()
            await asyncio.sleep(BEFORE_S)
            moved = time.monotonic()
            opened = asyncio.create_task(open_gate(load_settings({}, home=home)))
            report = await promote(home, small, "--rollback")
            async with served(home, ports[0], {}) as old_again:
                again = time.monotonic()
                await writer.wait_for(20)
                writer.stop()
                await writing
                seen = compared(writer.acknowledged, leads_of(home))
                tell("back", report, writer, (since, moved, await opened, again), seen)
                faults += sum(seen) + (not await found(old_again, key, "southern", 20))
    print(f"\nWrites that were refused and sent again: {writer.refusals}")
    return faults


def leads_of(home: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(home / "trellis.db") as database:
        return database.execute("SELECT external_id, id FROM leads").fetchall()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.perf.promotion_demo", description=__doc__)
    parser.add_argument("--leads", type=int, default=100_000)
    parser.add_argument("--documents", type=int, default=10_000)
    given = parser.parse_args()
    faults = asyncio.run(run(given.leads, given.documents))
    sys.exit(f"{faults} things were lost or doubled" if faults else 0)


if __name__ == "__main__":
    main()
