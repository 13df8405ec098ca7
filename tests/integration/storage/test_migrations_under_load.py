"""The schema goes down and up, several times, under a service that is used: nobody notices."""

from pathlib import Path

from sqlalchemy import text

from app.storage.db import Database
from tests.chaos.leads import lost_and_doubled
from tests.chaos.load import codes
from tests.support.databases import Addresses
from tests.support.migrating_load import ride

ROUNDS = 3


async def test_no_request_fails_and_no_lead_is_lost_while_the_schema_goes_down_and_up(
    tmp_path: Path, migrated_postgres: Addresses
) -> None:
    ridden = await ride(tmp_path, migrated_postgres, rate=12, calm_s=2, rounds=ROUNDS, worker=True)
    assert ridden.steps >= ROUNDS * 2 * 5
    assert len(ridden.during) > 20
    assert codes(ridden.during) == {}
    owner = Database(migrated_postgres.owner_url)
    async with owner.operator_reading() as session:
        stored = (await session.scalars(text("SELECT external_id FROM leads"))).all()
    await owner.close()
    assert lost_and_doubled(ridden.sent, stored) == (0, 0)
