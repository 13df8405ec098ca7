"""Repeats: one effect and one answer for each key, whatever order things happen in."""

import asyncio
from pathlib import Path

import httpx2
import pytest
import structlog
from fastapi import FastAPI, Request
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import InvalidInput
from app.governance.keys import create_key
from app.governance.models_keys import ApiKey, Tenant
from app.http.deps import Once
from app.http.idempotency import LEASE, Answer, Claim, InFlight, Repeats, purge_expired
from app.http.models import IdempotencyKey
from app.principal import Role, Tier
from app.storage.base import Base
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.examples import examples
from tests.support.http_app import Container, Item, Made, build, client_of, do_effect, effects, key_for


class Crash(BaseException):
    """The process died here: nothing after this line runs."""


async def post(client: httpx2.AsyncClient, key: str | None, name: str = "a", **more) -> httpx2.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return await client.post("/v1/items", json={"name": name, **more}, headers=headers)


async def test_the_same_request_again_gives_the_same_answer_and_no_second_effect(api, db):
    first, second = await post(api, "k1"), await post(api, "k1")
    assert first.status_code == second.status_code == 201
    assert first.content == second.content
    assert first.headers["content-type"] == second.headers["content-type"] == "application/json"
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert await effects(db) == 1


async def test_without_the_header_each_request_has_its_effect(api, db):
    assert [(await post(api, None)).status_code for _ in range(2)] == [201, 201]
    assert await effects(db) == 2


async def test_another_body_under_a_used_key_is_refused(api, db):
    await post(api, "k1", "a")
    answer = await post(api, "k1", "b")
    assert answer.status_code == 422
    assert "use a new key" in answer.json()["detail"]
    assert await effects(db) == 1


async def test_another_address_or_query_under_a_used_key_is_refused(api, db):
    headers = {"Idempotency-Key": "k1"}
    assert (await api.post("/v1/items/one/done", headers=headers)).status_code == 200
    assert (await api.post("/v1/items/two/done", headers=headers)).status_code == 422
    assert (await api.post("/v1/items/one/done?x=1", headers=headers)).status_code == 422
    assert (await api.post("/v1/items/one/done", headers=headers)).headers["idempotency-replayed"] == "true"
    assert await effects(db) == 1


async def test_the_keys_of_two_tenants_have_nothing_to_do_with_each_other(app, db, clock):
    secrets = [await key_for(db, clock, tenant) for tenant in ("acme", "globex")]
    rounds = []
    for _ in range(2):
        for secret in secrets:
            async with client_of(app, secret) as client:
                rounds.append(await post(client, "k1"))
    assert [answer.status_code for answer in rounds] == [201] * 4
    assert rounds[0].json()["id"] != rounds[1].json()["id"]
    assert [answer.content for answer in rounds[2:]] == [answer.content for answer in rounds[:2]]
    assert await effects(db) == 2


async def test_an_answer_is_not_given_again_to_another_role(app, api, db, clock):
    assert (await post(api, "k1")).status_code == 201
    async with db.operator_transaction() as session:
        viewer = await create_key(session, "acme", Role.VIEWER, Tier.STANDARD, "looks", clock())
        peer = await create_key(session, "acme", Role.AGENT, Tier.STANDARD, "acts", clock())
    async with client_of(app, viewer.secret) as client:
        assert (await post(client, "k1")).status_code == 422
    async with client_of(app, peer.secret) as client:
        assert (await post(client, "k1")).headers["idempotency-replayed"] == "true"


async def test_duplicates_at_the_same_moment_have_one_effect(api, db):
    answers = await asyncio.gather(*(post(api, "k1") for _ in range(8)))
    done = [answer for answer in answers if answer.status_code == 201]
    assert done
    assert len({answer.content for answer in done}) == 1
    for answer in answers:
        if answer.status_code != 201:
            assert answer.status_code == 409
            assert answer.json()["type"] == "urn:trellis:problem:in-flight"
            assert int(answer.headers["retry-after"]) >= 1
    assert await effects(db) == 1


async def test_work_that_fails_leaves_nothing_and_may_be_tried_again(api, db):
    for _ in range(2):
        answer = await post(api, "k1", "taken")
        assert answer.status_code == 409
        assert answer.json()["type"] == "urn:trellis:problem:conflict"
    assert await effects(db) == 0
    assert (await post(api, "k1", "free")).status_code == 201


async def test_an_invalid_body_does_not_use_the_key_up(api, db):
    assert (await post(api, "k1", count="many")).status_code == 422
    assert (await post(api, "k1")).status_code == 201


async def test_after_a_day_a_key_is_new_again(api, db, clock):
    first = await post(api, "k1", "a")
    clock.advance(hours=23, minutes=59)
    assert (await post(api, "k1", "a")).content == first.content
    clock.advance(minutes=1)
    again = await post(api, "k1", "b")
    assert again.status_code == 201
    assert "idempotency-replayed" not in again.headers
    assert (await post(api, "k1", "b")).content == again.content
    assert await effects(db) == 2


@pytest.mark.parametrize("key", ["", "x" * 201, "with space", "tab\tin", "é"])
async def test_a_key_out_of_bounds_is_named(api, db, key):
    answer = await api.post("/v1/items", json={"name": "a"}, headers={"Idempotency-Key": key.encode("latin-1")})
    assert answer.status_code == 422
    assert answer.json()["errors"][0] | {"message": ""} == {
        "in": "header",
        "field": "Idempotency-Key",
        "code": answer.json()["errors"][0]["code"],
        "message": "",
    }
    assert await effects(db) == 0


@pytest.mark.parametrize("key", ["x", "x" * 200, "!~", '"quoted"', "8e03978e-40d5-43dd-bc93-6894a57f9324"])
async def test_keys_within_bounds_are_taken(api, key):
    assert (await post(api, key)).status_code == 201


async def test_an_upload_is_told_apart_by_its_bytes(api, db):
    async def send(content: bytes) -> httpx2.Response:
        boundary = "b0undary"
        part = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'.encode()
        body = part + content + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Idempotency-Key": "k1", "Content-Type": f"multipart/form-data; boundary={boundary}"}
        return await api.post("/v1/items/upload", content=body, headers=headers)

    first = await send(b"one")
    assert first.status_code == 200
    assert (await send(b"one")).content == first.content
    assert (await send(b"two")).status_code == 422
    assert await effects(db) == 1


async def test_a_body_that_nobody_declared_counts_too(api, db):
    async def send(content: bytes) -> int:
        answer = await api.post("/v1/items/one/done", content=content, headers={"Idempotency-Key": "k1"})
        return answer.status_code

    assert [await send(b"one"), await send(b"two"), await send(b"one")] == [200, 422, 200]


@pytest.fixture
def repeats(db, clock) -> Repeats:
    return Repeats(db, clock)


async def work(db: Database, repeats: Repeats, claim: Claim, name: str) -> Answer:
    async with db.operator_transaction() as session:
        made = await do_effect(session, name)
        answer = Answer(201, made.model_dump_json())
        await repeats.complete(session, claim, answer)
    return answer


async def test_a_claim_in_flight_is_waited_for_and_not_shared(repeats):
    assert isinstance(await repeats.claim("acme", "k", "f"), Claim)
    with pytest.raises(InFlight) as refused:
        await repeats.claim("acme", "k", "f")
    assert refused.value.headers() == {"Retry-After": "2"}
    with pytest.raises(InvalidInput):
        await repeats.claim("acme", "k", "other")


async def test_a_crash_holds_the_key_for_the_lease_and_no_longer(repeats, db, clock):
    assert isinstance(await repeats.claim("acme", "k", "f"), Claim)
    clock.advance(seconds=59)
    with pytest.raises(InFlight):
        await repeats.claim("acme", "k", "f")
    clock.advance(seconds=1)
    claim = await repeats.claim("acme", "k", "f")
    assert isinstance(claim, Claim)
    answer = await work(db, repeats, claim, "a")
    assert await repeats.claim("acme", "k", "f") == answer


async def test_a_holder_that_outlived_its_lease_cannot_commit_its_work(repeats, db, clock):
    slow = await repeats.claim("acme", "k", "f")
    clock.advance(seconds=61)
    quick = await repeats.claim("acme", "k", "f")
    answer = await work(db, repeats, quick, "quick")
    with pytest.raises(InFlight, match="took longer than its lease"):
        await work(db, repeats, slow, "slow")
    assert await effects(db, "slow") == 0
    assert await effects(db) == 1
    assert await repeats.claim("acme", "k", "f") == answer


async def test_a_slow_holder_whose_key_was_not_taken_over_still_commits(repeats, db, clock):
    slow = await repeats.claim("acme", "k", "f")
    clock.advance(seconds=300)
    await work(db, repeats, slow, "slow")
    assert await effects(db) == 1


async def test_releasing_late_takes_nothing_from_the_one_who_took_over(repeats, db, clock):
    slow = await repeats.claim("acme", "k", "f")
    clock.advance(seconds=61)
    quick = await repeats.claim("acme", "k", "f")
    await repeats.release(slow)
    answer = await work(db, repeats, quick, "quick")
    await repeats.release(quick)
    assert await repeats.claim("acme", "k", "f") == answer


async def test_purging_deletes_what_is_over_and_nothing_else(repeats, db, clock):
    for number in range(5):
        claim = await repeats.claim("acme", f"old{number}", "f")
        await work(db, repeats, claim, "a")
    clock.advance(hours=23)
    fresh = await repeats.claim("globex", "fresh", "f")
    await work(db, repeats, fresh, "a")
    clock.advance(hours=1)
    for expected in (3, 2, 0):
        async with db.operator_transaction() as session:
            assert await purge_expired(session, clock(), limit=3) == expected
    async with db.operator_reading() as session:
        assert (await session.scalars(select(IdempotencyKey.key))).all() == ["fresh"]


TABLES = (Tenant, ApiKey, IdempotencyKey)
KEYS = st.sampled_from(["k1", "k2"])
BODIES = st.sampled_from(["a", "b"])
FATES = st.sampled_from(["done", "fails", "dies before", "dies within", "dies after"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), KEYS, BODIES, st.lists(FATES, min_size=1, max_size=4)),
        st.tuples(st.just("wait"), st.sampled_from([1, 30, 59, 60, 61])),
    ),
    min_size=1,
    max_size=14,
)


class World:
    """The service, and what an onlooker saw of it."""

    def __init__(self, url: str) -> None:
        self.db, self.clock = Database(url), StillClock()
        self.app = build(Container(self.db, self.clock))
        self.answers: dict[str, set[bytes]] = {}
        self.bodies: dict[str, str] = {}

    async def send(self, client: httpx2.AsyncClient, key: str, body: str, fate: str) -> None:
        headers = {"Idempotency-Key": key, "X-Fate": fate}
        try:
            answer = await client.post("/v1/fated", json={"name": body}, headers=headers)
        except Crash:
            return
        if answer.status_code == 201:
            self.answers.setdefault(key, set()).add(answer.content)
            assert self.bodies.setdefault(key, body) == body, "an answer was given to another body"
        else:
            assert answer.status_code in (409, 422, 500), answer.text

    async def check(self) -> None:
        for key in ("k1", "k2"):
            done = await effects(self.db, f"{key}:a") + await effects(self.db, f"{key}:b")
            assert done <= 1, f"{key} had {done} effects"
            assert len(self.answers.get(key, ())) <= 1, "two answers under one key"
            assert done == 1 or not self.answers.get(key), "an answer without its effect"


def fated(app: FastAPI) -> None:
    """An endpoint whose process dies, or whose work fails, as the request says."""

    @app.post("/v1/fated")
    async def endpoint(item: Item, once: Once, request: Request):
        fate, key = request.headers["x-fate"], request.headers["idempotency-key"]

        async def run(session: AsyncSession) -> Made:
            if fate == "dies before":
                raise Crash
            made = await do_effect(session, f"{key}:{item.name}")
            await asyncio.sleep(0)
            if fate == "dies within":
                raise Crash
            if fate == "fails":
                raise RuntimeError("no luck")
            return made

        answer = await once.run(201, run)
        if fate == "dies after":
            raise Crash
        return answer


@settings(max_examples=examples(40), deadline=None)
@given(steps=STEPS)
def test_any_order_of_repeats_crashes_and_waits_has_at_most_one_effect(tmp_path_factory, steps):
    with structlog.testing.capture_logs():
        asyncio.run(_play(tmp_path_factory.mktemp("once"), steps))


async def _play(folder: Path, steps) -> None:
    world = World(f"sqlite+aiosqlite:///{folder / 'once.db'}")
    async with world.db.writer.begin() as connection:
        await connection.run_sync(Base.metadata.create_all, tables=[model.__table__ for model in TABLES])
    fated(world.app)
    async with client_of(world.app, await key_for(world.db, world.clock, "acme")) as client:
        for step in steps:
            if step[0] == "wait":
                world.clock.advance(seconds=step[1])
            else:
                _, key, body, fates = step
                await asyncio.gather(*(world.send(client, key, body, fate) for fate in fates))
            await world.check()
        await _settle(world, client)
    await world.db.close()


async def _settle(world: World, client: httpx2.AsyncClient) -> None:
    # Whatever happened before: when the lease is over, repeating the request ends in its one answer.
    world.clock.advance(seconds=LEASE.total_seconds())
    for key in ("k1", "k2"):
        for body in ("a", "b"):
            await world.send(client, key, body, "done")
        assert len(world.answers[key]) == 1
    await world.check()
