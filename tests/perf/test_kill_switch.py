"""How long a thrown kill switch takes to be seen by another process on the servers: within a second of its commit.

Run with `pytest tests/perf/test_kill_switch.py -s`.
"""

import numpy as np

from app.settings import load_settings
from tests.perf.figures import record
from tests.support.servers import Backends, serving
from tests.support.switching import watched

THROWS = 30


async def test_kill_switch_on_the_servers(server_settings: Backends) -> None:
    async with serving(load_settings({}, **server_settings)) as db, watched(db, server_settings) as thrown:
        took = [await thrown(number % 2 == 0) for number in range(THROWS)]
    record("kill switch, seen by another process", throws=THROWS, p50_s=float(np.median(took)), longest_s=max(took))
    assert max(took) < 1
