"""Moves the rows of a data folder to the database of a settings file, or back: a process that a test may kill.

    python -m tests.support.promotion_child HOME ENVFILE [back]

Prints each thing that it begins to do, then the report in one line.
"""

import asyncio
import sys
from pathlib import Path

import orjson

from app.errors import TrellisError
from app.promotion.command import opened, turned
from app.promotion.promotion import Limits, Promotion
from app.promotion.tables import moved_tables
from app.settings import load_settings, load_settings_file

# A machine that is busy with other tests must not call the switch off.
SWITCH_S = 60.0


class Spoken:
    def __init__(self) -> None:
        self._last = ""

    def __call__(self, what: str, _done: int, _total: int) -> None:
        if what != self._last:
            self._last = what
            print(what, flush=True)


async def move(home: Path, target: Path, *, back: bool) -> None:
    async with opened(load_settings({}, home=home), load_settings_file(target), Spoken()) as context:
        promotion = Promotion(turned(context) if back else context, moved_tables(), (), Limits(SWITCH_S))
        report = await promotion.run()
    print(orjson.dumps(orjson.loads(report.json())).decode(), flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(move(Path(sys.argv[1]), Path(sys.argv[2]), back="back" in sys.argv[3:]))
    except TrellisError as problem:
        sys.exit(f"error: {problem.detail}")
