"""The connections of all processes together fit the phase's PostgreSQL."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings import Settings
from infra.phases import PHASES, DatabaseServer, Phase, PhaseName
from infra.pools import (
    EMBEDDED,
    LEAST,
    MIGRATION,
    MOST,
    RESERVE,
    in_rollout,
    max_connections,
    on_primary,
    on_replica,
    plan,
)

MEDIUM = PHASES[PhaseName.MEDIUM]


@pytest.mark.parametrize("phase", PHASES.values(), ids=lambda phase: phase.name)
@pytest.mark.parametrize("poolers", [0, None])
def test_every_phase_fits_its_database_also_without_pgbouncer(phase: Phase, poolers: int | None) -> None:
    if poolers is not None and phase.server is not None:
        phase = replace(phase, server=replace(phase.server, poolers=poolers))
    pools = plan(phase)
    assert 0 < on_primary(phase, pools) <= pools.limit
    assert on_replica(phase, pools) <= pools.limit
    assert pools.process == EMBEDDED or LEAST <= pools.process <= MOST


@given(
    memory=st.sampled_from([2, 4, 8, 16, 32, 64, 512]),
    pods=st.integers(1, 400),
    workers=st.integers(1, 200),
    poolers=st.integers(0, 6),
)
def test_a_plan_fits_or_is_refused(memory: int, pods: int, workers: int, poolers: int) -> None:
    server = DatabaseServer("db.test", memory, workers, poolers)
    phase = replace(MEDIUM, fleet=replace(MEDIUM.fleet, most=pods), server=server)
    needed = 2 * LEAST * (in_rollout(workers) + (0 if poolers else in_rollout(pods)))
    if needed > max_connections(memory) - RESERVE - MIGRATION:
        with pytest.raises(ValueError, match=r"do not fit the connections of one db\.test"):
            plan(phase)
        return
    pools = plan(phase)
    assert max(on_primary(phase, pools), on_replica(phase, pools)) <= pools.limit
    assert LEAST <= pools.process <= MOST
    assert pools.pooler >= LEAST if poolers else pools.pooler == 0


def test_a_connection_more_in_each_pool_that_is_not_full_would_not_fit() -> None:
    server = DatabaseServer("db.test", 4, 20, 0)
    phase = replace(MEDIUM, server=server)
    pools = plan(phase)
    assert LEAST <= pools.process < MOST
    assert on_primary(phase, replace(pools, process=pools.process + 1)) > pools.limit


def test_a_server_lets_in_what_rds_says_at_most() -> None:
    assert max_connections(1_000) == 5_000
    assert max_connections(4) == int(4 * 0.85 * 2**30 / 9_531_392) == 383


def test_the_apps_pools_are_the_phases_unless_they_are_set() -> None:
    assert Settings().pool_size == EMBEDDED
    assert Settings(phase="medium").pool_size == plan(MEDIUM).process
    assert Settings(phase="medium", database_pool_size=3).pool_size == 3
