"""Requests with the same key, many at once: one effect and one answer, embedded and on servers."""

import asyncio

import pytest

from app.governance.keys import KeyRing
from app.http.idempotency import Answer, Claim, InFlight, Repeats
from app.storage.db import Database
from tests.support.http_app import Container, build, client_of, do_effect, effects, key_for


@pytest.fixture
def db(database: Database) -> Database:
    return database


@pytest.fixture
def repeats(db, clock) -> Repeats:
    return Repeats(db, clock)


async def work(db: Database, repeats: Repeats, claim: Claim, name: str, pause_s: float = 0) -> Answer:
    async with db.operator_transaction() as session:
        answer = Answer(201, (await do_effect(session, name)).model_dump_json())
        await repeats.complete(session, claim, answer)
        await asyncio.sleep(pause_s)
    return answer


async def test_fifty_duplicates_at_once_have_one_effect_and_one_answer(db, clock):
    app = build(Container(db, clock))
    async with client_of(app, await key_for(db, clock, "acme")) as client:

        async def send():
            return await client.post("/v1/items", json={"name": "a"}, headers={"Idempotency-Key": "k"})

        answers = await asyncio.gather(*(send() for _ in range(50)))
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
        assert (await send()).headers["idempotency-replayed"] == "true"
    assert await effects(db) == 1


async def test_a_take_over_that_races_the_first_holders_commit_gets_its_answer(db, clock, repeats):
    slow = await repeats.claim("acme", "k", "f")
    clock.advance(seconds=61)
    committing = asyncio.create_task(work(db, repeats, slow, "slow", pause_s=0.3))
    await asyncio.sleep(0.1)
    # The first holder has written its answer and not yet committed: the other waits for the row, then replays.
    assert await repeats.claim("acme", "k", "f") == await committing
    assert await effects(db) == 1


async def test_of_many_that_take_over_one_wins(db, clock, repeats):
    await repeats.claim("acme", "k", "f")
    clock.advance(seconds=61)
    results = await asyncio.gather(*(repeats.claim("acme", "k", "f") for _ in range(15)), return_exceptions=True)
    assert sum(isinstance(result, Claim) for result in results) == 1
    assert sum(isinstance(result, InFlight) for result in results) == 14


async def test_a_late_holder_rolls_back_while_the_new_one_works(db, clock, repeats):
    slow = await repeats.claim("acme", "k", "f")
    clock.advance(seconds=61)
    quick = await repeats.claim("acme", "k", "f")
    done, late = await asyncio.gather(
        work(db, repeats, quick, "quick", pause_s=0.2),
        work(db, repeats, slow, "slow"),
        return_exceptions=True,
    )
    assert isinstance(late, InFlight)
    assert await repeats.claim("acme", "k", "f") == done
    assert await effects(db) == await effects(db, "quick") == 1


async def test_a_key_gives_its_principal(db, clock):
    secret = await key_for(db, clock, "acme")
    principal = await KeyRing(db, clock).authenticate(secret)
    assert principal is not None
    assert principal.tenant_id == "acme"
