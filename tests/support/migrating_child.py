"""A migrator as a process of its own: `python -m tests.support.migrating_child URL FOLDER LOWEST ROUNDS`.

Prints "ready"; at a line on its input it takes the schema of a database in use down to LOWEST and up again, ROUNDS
times, and prints how many steps that were and how long each took at the most. FOLDER has the revisions of a newer
program (`tests.support.revisions`).
"""

import asyncio
import sys
import time
from pathlib import Path

import app.container  # noqa: F401 - every table of every room and pack is declared by its import
from app.storage.db import Database
from app.storage.migrating import Migration
from tests.support.revisions import NewerProgram


async def main(url: str, folder: Path, lowest: str, rounds: int) -> None:
    database, steps, told = Database(url), 0, []
    migration = Migration(database.writer, told=told.append)
    assert await migration.plan() == []
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.monotonic()
    for _ in range(rounds):
        steps += len(await migration.run(lowest, down=True))
        steps += len(await migration.run())
    waits = sum("not got" in sentence for sentence in told)
    print(f"{steps} {waits} {time.monotonic() - began:.1f}", flush=True)
    await database.close()


if __name__ == "__main__":
    with NewerProgram(Path(sys.argv[2])).running():
        asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
