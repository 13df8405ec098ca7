"""A person who left something in every store is given out whole and erased whole, embedded and on servers."""

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from app.governance.audit import verify
from app.governance.people import Alias, Kind, person_mark
from app.web.signing import signing_key
from tests.support.people import Planted, erased_for_good, files_with, path_of, plant, tables_with
from tests.support.postgres import USER
from tests.support.redis import RedisServer, entries
from tests.support.servers import Backends
from tests.support.service import TENANT, Service, running

PERSON = Planted()
STORES = {
    "leads",
    "claims",
    "treatments",
    "clients",
    "team_questions",
    "chat",
    "integrations",
    "decisions",
    "writes",
    "idempotency_keys",
    "memory",
    "tastes",
}


class Left:
    """What of a person is anywhere: rows of every tenant, files, and on servers Redis."""

    def __init__(self, home: Path, backends: Backends, masters: list[RedisServer]) -> None:
        owner = backends.get("database_owner_url")
        seen = make_url(owner).set(drivername="postgresql+psycopg", username=USER) if owner else None
        self.url = str(seen) if seen else f"sqlite:///{home / 'trellis.db'}"
        self.home = home
        self.masters = masters

    def in_tables(self, *texts: str) -> set[str]:
        return set().union(*tables_with(self.url, texts).values())

    def in_files(self) -> set[str]:
        return set().union(*files_with(self.home, PERSON.told).values())

    def in_redis(self) -> set[str]:
        """Those texts that any key or value holds; counters of rate limits go by themselves in minutes."""
        text = str([entry for master in self.masters for entry in entries(master)]).lower()
        return {told for told in (*PERSON.told, PERSON.user_id) if told in text}


@pytest.fixture
def left(request: pytest.FixtureRequest, tmp_path: Path, backends: Backends) -> Left:
    home = tmp_path / "home"
    home.mkdir()
    return Left(home, backends, request.getfixturevalue("servers").redis.masters if backends else [])


async def test_a_planted_person_is_in_every_store_and_then_in_none(
    left: Left, backends: Backends, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running(left.home, erase_again_s=0, **backends) as service:
        await plant(service, PERSON)
        assert left.in_tables(*PERSON.told) > {"leads", "team_questions"}
        assert not left.masters or set(PERSON.words[2:]) <= left.in_redis()
        await assert_export_is_whole(service)
        gone = await service.client.delete(path_of(PERSON.email))
        assert gone.status_code == 200, gone.text
        counts = gone.json()["erased"]
        assert {name for name, count in counts.items() if count} >= STORES | {"answers", "jobs"}
        assert not left.in_redis()
        again = (await service.client.delete(path_of(PERSON.email))).json()
        assert set(again["erased"].values()) == {0}
        assert (await service.client.delete(path_of(PERSON.user_id))).json() == again
        await erased_for_good(service)
        assert (await service.client.get(path_of(PERSON.email))).json()["stores"] == {name: [] for name in counts}
        await assert_tombstone(service, counts)
        assert not left.in_tables(*PERSON.told)
        assert left.in_tables(PERSON.user_id) <= {"audit_entries"}
        assert not left.in_redis()
        assert await service.container.db.forget_deleted()
        assert not left.in_files()
        logged = "".join(capfd.readouterr()).lower()
        assert not [text for text in PERSON.told if text in logged]
    assert not left.in_files()


async def assert_export_is_whole(service: Service) -> None:
    by_email = (await service.client.get(path_of(PERSON.email.upper()))).json()
    by_user = (await service.client.get(path_of(PERSON.user_id))).json()
    assert by_email["stores"].keys() == by_user["stores"].keys()
    assert {name for name, rows in by_email["stores"].items() if rows} == STORES
    assert by_email["aliases"] == by_user["aliases"]
    text = str(by_user["stores"]).lower()
    assert not [told for told in PERSON.told if told not in text]


async def assert_tombstone(service: Service, counts: dict[str, int]) -> None:
    erasures = [row for row in await service.rows("audit_entries") if row["action"] == "person.erased"]
    secret = signing_key(service.container.settings)
    mark = person_mark(secret, TENANT, Alias(Kind.EMAIL, PERSON.email.lower()))
    assert mark in erasures[0]["data"]
    assert f'"leads":{counts["leads"]}' in erasures[0]["data"]
    assert not [text for text in PERSON.told if text in str(erasures).lower()]
    async with service.container.db.operator_reading() as session:
        assert (await verify(session)).ok
