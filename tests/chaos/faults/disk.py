"""The embedded default's disk is full: a file system of its own, small and in memory, that a ballast fills."""

import asyncio
import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from tests.chaos.fault import CannotBeMade, Promise, Seen, Stage
from tests.chaos.house import furnish, serving
from tests.chaos.leads import Senders, lost_and_doubled
from tests.chaos.load import Client, Load, Try, codes, failed, session, until_answered

SIZE_MB = 64
FULL_S = 8.0
WRITES, READS = 10.0, 10.0
RECOVERY_S = 20.0
DECIDED_S = 60.0
PIECE = 1 << 16


class DiskFull:
    name = "disk-full"
    title = "The embedded database's disk is full"
    needs: tuple[str, ...] = ()
    promise = Promise(
        "what cannot be stored is refused with 507 'storage-full'; reads go on; nothing is half written; it goes on by "
        "itself when there is room, background work too",
        recovery_s=5,
        figures={"reads_failed": 0, "other_errors": 0, "half_written": 0, "damaged": 0, "undecided": 0},
    )

    async def run(self, stage: Stage) -> Seen:
        disk = mounted(stage)
        house = await furnish(disk / "home", {})
        http = await stage.stack.enter_async_context(session())
        server = await stage.stack.enter_async_context(serving(house))
        client = Client(http, server.address, house.key)
        senders = Senders(client)

        async def read(_number: int) -> Try:
            return await client.get("/v1/leads?limit=20")

        stage.tell("leads are written and read, the disk fills up")
        async with Load(senders.send, WRITES), Load(read, READS) as reads:
            await asyncio.sleep(2)
            fill(disk / "ballast")
            await asyncio.sleep(FULL_S)
        refused = codes(senders.tries)
        stage.tell(f"full: {refused}; now there is room again")
        database = house.home / "trellis.db"
        damaged = not sound(database)
        (disk / "ballast").unlink()
        recovery_s = await until_answered(lambda: senders.send(10**6), RECOVERY_S)
        await senders.resend()
        undecided = await self._undecided(client)
        server.terminate()
        found = names(database)
        lost, doubled = lost_and_doubled(senders.acknowledged, found)
        return Seen(
            tried=len(senders.tries) + len(reads.tries),
            failed=failed(senders.tries) + failed(reads.tries),
            lost=lost,
            doubled=doubled,
            recovery_s=recovery_s,
            kinds=codes([*senders.tries, *reads.tries]),
            figures={
                "refused_507": refused.get("507 storage-full", 0),
                "reads_failed": failed(reads.tries),
                "other_errors": sum(count for kind, count in refused.items() if kind != "507 storage-full"),
                "half_written": len(set(found) - senders.acknowledged) + orphans(database),
                "damaged": damaged + (not sound(database)),
                "undecided": undecided,
            },
        )

    async def _undecided(self, client: Client) -> int:
        """Leads that wait for their decision when they should not any more."""
        left = -1
        for _ in range(int(DECIDED_S / 0.5)):
            counts = await client.get("/v1/leads/counts")
            left = int(counts.body["by_status"].get("new", 0)) if counts.ok else -1
            if left == 0:
                return 0
            await asyncio.sleep(0.5)
        return left if left > 0 else 1


def mounted(stage: Stage) -> Path:
    """An empty file system of `SIZE_MB`, unmounted when the fault is over. Raises CannotBeMade."""
    disk = stage.folder / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        raise CannotBeMade("needs root, to mount a small file system")
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "none", str(disk)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        raise CannotBeMade(f"needs to mount a small file system: {made.stderr.strip()}")
    stage.stack.callback(subprocess.run, ["umount", str(disk)], check=True)
    return disk


def fill(path: Path) -> None:
    """Writes until there is no room for one byte more."""
    piece = PIECE
    with path.open("wb", buffering=0) as ballast:
        while piece:
            try:
                ballast.write(b"\0" * piece)
            except OSError:
                piece //= 2


def sound(database: Path) -> bool:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


def names(database: Path) -> list[str]:
    """What the senders called the leads that are there."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT external_id FROM leads WHERE external_id LIKE 'chaos-%'").fetchall()
    return [str(name) for (name,) in rows]


def orphans(database: Path) -> int:
    """Leads without the message that they came with, and messages without their lead."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        bare = "SELECT count(*) FROM leads WHERE id NOT IN (SELECT lead_id FROM lead_messages)"
        stray = "SELECT count(*) FROM lead_messages WHERE lead_id NOT IN (SELECT id FROM leads)"
        return sum(int(connection.execute(query).fetchone()[0]) for query in (bare, stray))
