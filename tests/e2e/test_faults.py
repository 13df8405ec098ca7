"""The cheapest of the faults of `make chaos`, as it is there: nothing beside the service has to be started for it."""

import pytest

from tests.chaos.faults.disk import DiskFull
from tests.chaos.run import make


async def test_a_full_disk_refuses_what_it_cannot_store_and_nothing_else() -> None:
    outcome = await make(DiskFull(), seeds=1)
    if outcome.skipped:
        pytest.skip(f"needs a small file system: {outcome.skipped}")
    assert outcome.broken == ()
