"""Workers that are killed at every boundary of a job's steps, on the logins and the pooler of a deployment."""

from tests.support.databases import Addresses
from tests.support.faulty_worker import BOUNDARIES
from tests.support.pgbouncer import running_pgbouncer
from tests.support.postgres import PostgresServer
from tests.support.worker_faults import run_many

UNKNOWN = {"claim.after", "effect.done"}
"""Killed there, nobody can know whether it was sent."""


async def test_no_death_at_any_boundary_loses_a_job_or_has_an_effect_twice(
    postgres_server: PostgresServer, migrated_postgres: Addresses
) -> None:
    with running_pgbouncer(postgres_server.port) as pooler:
        outcomes = await run_many(range(len(BOUNDARIES)), migrated_postgres.app_url, pooler.url(migrated_postgres.name))
    assert {outcome.boundary for outcome in outcomes} == set(BOUNDARIES)
    assert sum(outcome.tried for outcome in outcomes) > 2 * len(outcomes)
    for outcome in outcomes:
        assert (outcome.failed, outcome.lost, outcome.doubled) == (0, 0, 0), outcome
        # The deadly job itself; a neighbour may have been there too.
        assert outcome.parked >= (outcome.boundary in UNKNOWN), outcome
