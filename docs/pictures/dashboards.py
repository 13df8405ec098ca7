"""Makes the pictures of dashboards in this folder again: `make dashboards-pictures`.

Starts the service with a model endpoint of its own, Prometheus and Alertmanager with the rules of the PoC phase sixty
times as fast, and asks for everything that the service does. After a while the model goes wrong for a minute: what
that looks like, and which alerts name it, is what the pictures show. Needs Prometheus and Alertmanager (`make deps`).
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent.parent))

from infra.phases import PhaseName  # noqa: E402
from tests.support.components import COMPONENTS  # noqa: E402 - found by the line above
from tests.support.observed import Observed, observed  # noqa: E402

BOARDS = ("trellis-slo", "trellis-model")
NEEDS = ("prometheus", "alertmanager")
CALM_S, FAULT_S, AFTER_S = 120.0, 60.0, 90.0
FAULT = {"errors": 0.7, "slow_s": 1.5}
STEP = "2s"


async def main(out: Path, boards: Sequence[str], suffixes: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "drawn"
        # A phase that promises a p99 as well.
        async with observed(Path(folder), phase=PhaseName.SMALL) as house:
            await live(house)
            # All boards show the same minutes, however long drawing takes.
            when = ("--range", CALM_S + FAULT_S + AFTER_S, "--at", time.time(), "--step", STEP)
            ended = max([await house.draw(board, drawn, *when) for board in boards])
        for suffix in suffixes:
            for path in sorted(drawn.glob(f"*{suffix}")):
                print(shutil.copy(path, out))
    return ended


async def live(house: Observed) -> None:
    """Calm, a fault, and what comes after."""
    async with house.load():
        await asyncio.sleep(CALM_S)
        with house.fault(**FAULT):
            await asyncio.sleep(FAULT_S)
        await asyncio.sleep(AFTER_S)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the pictures (this one)")
    parser.add_argument("--boards", default=",".join(BOARDS), help="uids, comma-separated, or 'all' (%(default)s)")
    parser.add_argument("--pages", action="store_true", help="the HTML pages too")
    given = parser.parse_args()
    absent = [need for need in NEEDS if COMPONENTS[need].find() is None]
    if absent:
        sys.exit(f"This needs {' and '.join(absent)}: `make deps` installs them where there is a package manager.")
    given.out.mkdir(parents=True, exist_ok=True)
    sys.exit(asyncio.run(main(given.out, given.boards.split(","), [".png", ".html"] if given.pages else [".png"])))
