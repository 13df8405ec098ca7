"""The cheapest of the faults of `make chaos`, as it is there: nothing beside the service has to be started for it."""

from dataclasses import replace

import pytest

from tests.chaos.faults.disk import RECOVERY_S, DiskFull
from tests.chaos.run import make


async def test_a_full_disk_refuses_what_it_cannot_store_and_nothing_else() -> None:
    fault = DiskFull()
    # How soon is `make chaos`'s to say, with the machine to itself.
    fault.promise = replace(fault.promise, recovery_s=RECOVERY_S)
    outcome = await make(fault, seeds=1)
    if outcome.skipped:
        pytest.skip(f"needs a small file system: {outcome.skipped}")
    assert outcome.broken == ()
