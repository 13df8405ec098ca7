"""What requests feel of a migration: the schema goes down and up under a steady load, beside the same load alone.

Real PostgreSQL, one server process without its worker, requests sent at a steady rate whatever becomes of them. A
deployment's migrator has a machine of its own; here it takes processor time from the service. What that alone costs is
seen while the same revisions run on another database of the same server.
"""

from pathlib import Path

from tests.chaos.load import codes, failed, percentile_ms
from tests.perf.figures import record
from tests.support.databases import Addresses
from tests.support.migrating_load import ride
from tests.support.postgres import PostgresServer

RATE = 10.0
CALM_S = 15.0
ROUNDS = 5
AT_MOST = 2.0


async def test_a_migration_at_most_doubles_the_slowest_hundredth(
    tmp_path: Path, postgres_server: PostgresServer, migrated_postgres: Addresses
) -> None:
    unused = postgres_server.new_database(migrated=True)
    ridden = await ride(
        tmp_path, migrated_postgres, rate=RATE, calm_s=CALM_S, rounds=ROUNDS, worker=False, unused=unused
    )
    phases = (ridden.before, ridden.beside, ridden.during)
    before, beside, during = (percentile_ms(tries, 99) for tries in phases)
    record(
        "migrations under load",
        requests=len(ridden.during),
        failed=failed(ridden.during),
        revisions=ridden.steps,
        waits_for_locks=ridden.waits,
        took_s=ridden.took_s,
        p50_before_ms=percentile_ms(ridden.before, 50),
        p50_during_ms=percentile_ms(ridden.during, 50),
        p99_before_ms=before,
        p99_beside_another_ms=beside,
        p99_during_ms=during,
    )
    assert codes(ridden.during) == {}
    assert during <= AT_MOST * max(before, beside)
