"""Whatever tenants, bots and users do beside each other: no word of one reaches another, by any way that answers.

The model repeats all that it is shown, and bots answer by meaning from a likeness of 0.5 on: a word that crosses, from
a passage, the memory or a cache, is seen. The same rules hold with the caches of this process, and with everything in
Redis.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.cache import tiered
from app.principal import Principal, Role
from app.storage.base import Base
from loadtest.stub.server import KEY, ModelStub
from tests.support.isolation import BOTS, Someone, Tenant, events, parrot, two_tenants
from tests.support.redis import RedisServer
from tests.support.service import Service, running

QUESTIONS = (
    "What does a sensor cost a month?",
    "What is the price of a sensor a month?",
    "Who pays the refund?",
    "hello",
)
# A sequence takes seconds: a failing one is shown as it was found, not made shorter.
RULES = settings(
    phases=[Phase.generate], deadline=None, max_examples=8, suppress_health_check=list(HealthCheck), derandomize=True
)
pytestmark = pytest.mark.timeout(400)


@dataclass
class Host:
    """A service on an event loop of its own, for rules that are written without one."""

    portal: BlockingPortal
    service: Service
    redis: RedisServer | None

    def hits(self, cache: str, tier: str) -> float:
        labels = {"cache": cache, "tier": tier, "result": "hit"}
        registry = self.service.container.metrics.registry
        return registry.get_sample_value("trellis_cache_requests_total", labels) or 0.0


@pytest.fixture(scope="module", params=["in process", "in redis"])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    redis = request.getfixturevalue("redis_server") if request.param == "in redis" else None
    with pytest.MonkeyPatch.context() as patch, start_blocking_portal() as portal:
        if redis is not None:
            # What is in this process is too old at once: every hit is one of the second tier.
            patch.setattr(tiered, "NEAR_TTL_S", 0.0)
            # There is no other process that a drop would have to reach first.
            patch.setattr(tiered, "SETTLING_S", 0.0)
        stub = portal.wrap_async_context_manager(ModelStub(answer=parrot, keep=False))
        with stub as model:
            more = {
                "model_url": model.url,
                "model_key": KEY,
                "model_name": "parrot",
                "model_input_usd_per_million": 1.0,
                "model_output_usd_per_million": 1.0,
                "redis_url": redis.url if redis else None,
            }
            folder = tmp_path_factory.mktemp("apart")
            with portal.wrap_async_context_manager(running(folder, knowledge=False, **more)) as service:
                yield Host(portal, service, redis)


async def asks(me: Someone, _other: Someone, bot: str, pick: int) -> None:
    """Half of the questions hold the user's own word; the others are the same for everybody."""
    answer = await me.call(bot, "POST", f"/v1/bots/{bot}/chat", json={"message": _question(me, pick)})
    assert answer.status_code == 200, answer.text
    me.decisions.append((bot, answer.json()["decision_id"]))


async def asks_by_the_seeds_address(me: Someone, _other: Someone, bot: str, pick: int) -> None:
    said = [{"role": "user", "content": f"My word is {me.secret}."}, {"role": "assistant", "content": "Noted."}]
    body = {"bot_id": bot, "message": _question(me, pick), "history": said if pick % 2 else []}
    answer = await me.call(bot, "POST", "/chat", json=body)
    assert answer.status_code == 200, answer.text


async def streams(me: Someone, _other: Someone, bot: str, pick: int) -> None:
    body = {"message": _question(me, pick), "stream": True}
    answer = await me.call(bot, "POST", f"/v1/bots/{bot}/chat", json=body)
    came = events(answer.text)
    assert [name for _, name, _ in came][-1] == "done", answer.text
    me.streams.append(answer.headers["location"])
    again = await me.call(bot, "GET", me.streams[-1], headers={"Last-Event-ID": came[0][0]})
    assert events(again.text) == came[1:]


async def at_once(me: Someone, other: Someone, bot: str, pick: int) -> None:
    """Both ask at the same moment: turns that are alike may be one."""
    await asyncio.gather(*(asks(who, who, bot, pick) for who in (me, other, me)))


async def pries(me: Someone, other: Someone, bot: str, pick: int) -> None:
    """Another's stream, and another tenant's answer, are answered as ones that nobody has."""
    for address in other.streams[-2:]:
        place, _, name = address.rpartition("/")
        await _like_nobodys(me, bot, "GET", place, name)
    if other.tenant is not me.tenant:
        for its_bot, decision in other.decisions[-2:]:
            await _like_nobodys(me, bot, "POST", f"/v1/bots/{its_bot}/answers", decision, "/feedback")
    assert (await me.call(bot, "GET", f"/v1/bots/{bot}/search?q=sensor")).status_code == 403
    assert (await me.call(bot, "GET", f"/v1/decisions/{pick}")).status_code == 403


async def says_how_it_was(me: Someone, _other: Someone, bot: str, pick: int) -> None:
    for its_bot, decision in me.decisions[-1:]:
        body = {"helpful": bool(pick % 2), "comment": f"{me.secret} says so"}
        answer = await me.call(bot, "POST", f"/v1/bots/{its_bot}/answers/{decision}/feedback", json=body)
        assert answer.status_code == 200, answer.text


async def forgets(me: Someone, _other: Someone, bot: str, _pick: int) -> None:
    assert (await me.call(bot, "DELETE", f"/v1/bots/{bot}/memory")).status_code == 204


async def the_tenant_reads(me: Someone, other: Someone, bot: str, pick: int) -> None:
    """The admin's own pages and answers, and the other tenant's ids, which are like ones that nobody has."""
    tenant, foreign = me.tenant, other.tenant
    query = {"q": QUESTIONS[pick % 3], "limit": 20}
    assert (await tenant.call(bot, "GET", f"/v1/bots/{bot}/search", params=query)).json()["items"]
    await tenant.call(bot, "GET", f"/v1/bots/{bot}/documents")
    await tenant.call(bot, "GET", f"/v1/bots/{bot}/documents/{tenant.documents[bot]}/chunks")
    await tenant.call("", "GET", "/v1/bots")
    for _, decision in me.decisions[-1:]:
        assert (await tenant.call("", "GET", f"/v1/decisions/{decision}")).status_code == 200
    if foreign is tenant:
        return
    for _, decision in other.decisions[-1:]:
        await _like_nobodys(tenant, bot, "GET", "/v1/decisions", decision)
    base = f"/v1/bots/{bot}/documents"
    for method, after in (("GET", ""), ("GET", "/chunks"), ("POST", "/retry"), ("DELETE", "")):
        await _like_nobodys(tenant, bot, method, base, foreign.documents[bot], after)


async def the_tenant_writes(me: Someone, _other: Someone, bot: str, pick: int) -> None:
    """A new version of the page, or new settings: caches fall, and both bots go on apart."""
    if pick % 2:
        await me.tenant.upload(bot, f"\n\n## Version {pick}\n\nOf the page.")
        return
    settings = {"semantic_threshold": 0.5, "needs_evidence": False, "passages": pick + 1, "open_to_users": True}
    assert (await me.tenant.call(bot, "PUT", f"/v1/bots/{bot}", json=settings)).status_code == 200
    flags = me.service.container.kit.flags
    admin = Principal(me.tenant.name, "test", Role.ADMIN)
    async with me.service.container.db.operator_transaction() as session:
        await flags.set(session, admin, "retrieval.boosts", bool(pick % 4))
    await flags.refresh()


async def is_given_out(me: Someone, _other: Someone, _bot: str, _pick: int) -> None:
    """What is kept of a person names no other user of their tenant either."""
    given = await me.tenant.call("", "GET", f"/v1/people/{me.user_id}")
    assert given.status_code == 200, given.text
    assert not [user.secret for user in me.tenant.users if user is not me and user.secret in given.text]


async def is_erased(me: Someone, other: Someone, _bot: str, _pick: int) -> None:
    """Who has the same id elsewhere, or another id here, keeps what they said."""
    memory = me.service.container.kit.memory
    before = await memory.export(other.tenant.name, other.user_id)
    gone = await me.tenant.call("", "DELETE", f"/v1/people/{me.user_id}")
    assert gone.status_code == 200, gone.text
    assert await memory.export(other.tenant.name, other.user_id) == before
    assert await memory.export(me.tenant.name, me.user_id) == {}


def _question(me: Someone, pick: int) -> str:
    question = QUESTIONS[pick % len(QUESTIONS)]
    return f"My word is {me.secret}. {question}" if pick >= len(QUESTIONS) else question


async def _like_nobodys(who: Someone | Tenant, bot: str, method: str, place: str, name: str, after: str = "") -> None:
    """The same status and sentence for this id and for one that there is not."""
    absent = f"{name[:-4]}zzzz"
    body: dict[str, Any] = {"json": {"helpful": True}} if after == "/feedback" else {}
    answers = [await who.call(bot, method, f"{place}/{one}{after}", **body) for one in (name, absent)]
    assert [answer.status_code for answer in answers] == [404, 404], answers[0].text
    first, second = (answer.json() | {"instance": ""} for answer in answers)
    assert first["detail"].replace(name, absent) == second["detail"]
    assert first | {"detail": ""} == second | {"detail": ""}


def keeps_to_itself(tenants: list[Tenant]) -> None:
    """Users see their own word and their bot's; an admin's key sees its tenant's, and of a bot's pages that bot's."""
    for tenant in tenants:
        every = {word for one in tenants for word in one.facts.values()}
        said = {user.secret for one in tenants for user in one.users}
        for who in tenant.users:
            for bot, text in who.seen:
                allowed = {who.secret, *([tenant.facts[bot]] if bot else [])}
                assert not [word for word in (every | said) - allowed if word in text], (who.user_id, bot, text)
        own = {user.secret for user in tenant.users}
        for bot, text in tenant.seen:
            allowed = own | ({tenant.facts[bot]} if bot else set(tenant.facts.values()))
            assert not [word for word in (every | said) - allowed if word in text], (tenant.name, bot, text)


async def memory_keeps_to_itself(service: Service, tenants: list[Tenant]) -> None:
    everybody = [user for tenant in tenants for user in tenant.users]
    for me in everybody:
        for bot, kept in (await service.container.kit.memory.export(me.tenant.name, me.user_id)).items():
            text = repr(kept)
            others = [other.secret for other in everybody if other is not me]
            pages = [word for one in tenants for its, word in one.facts.items() if (one, its) != (me.tenant, bot)]
            assert not [word for word in (*others, *pages) if word in text], (me.tenant.name, me.user_id, bot, text)


async def rows_keep_to_themselves(service: Service, tenants: list[Tenant]) -> None:
    """No row of a tenant, in any table, holds a word of the other."""
    words = {one.name: {*one.facts.values(), *(user.secret for user in one.users)} for one in tenants}
    for table in sorted(Base.metadata.tables):
        columns = Base.metadata.tables[table].c
        if "tenant_id" not in columns or "id" not in columns:
            continue
        for row in await service.rows(table):
            if row["tenant_id"] in words:
                foreign = [word for name, own in words.items() if name != row["tenant_id"] for word in own]
                assert not [word for word in foreign if word in repr(row)], (table, row)


def redis_keeps_apart(redis: RedisServer, tenants: list[Tenant]) -> None:
    """No value of any cache or memory holds words of two tenants, of two bots, or of two users."""
    client = redis.client()
    for key in client.scan_iter():
        text = (
            repr(client.get(key) if client.type(key) == "string" else client.lrange(key, 0, -1))
            if (client.type(key) in ("string", "list"))
            else ""
        )
        whose = {(one.name, bot) for one in tenants for bot, word in one.facts.items() if word in text}
        said = {(one.name, user.user_id) for one in tenants for user in one.users if user.secret in text}
        assert len(whose) <= 1, (key, text)
        assert len(said) <= 1, (key, text)
        assert len({name for name, _ in (*whose, *said)}) <= 1, (key, text)


ACTIONS = (
    asks,
    asks_by_the_seeds_address,
    streams,
    at_once,
    pries,
    says_how_it_was,
    forgets,
    the_tenant_reads,
    the_tenant_writes,
    is_given_out,
    is_erased,
)
steps = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(1, 3), st.sampled_from(ACTIONS), st.sampled_from(BOTS),
        st.integers(0, 2 * len(QUESTIONS) - 1),
    ),
    min_size=8,
    max_size=20,
)  # fmt: skip


def test_no_word_of_one_reaches_another(host: Host) -> None:
    async def run(steps: list[tuple[int, int, Any, str, int]]) -> None:
        tenants = await two_tenants(host.service)
        people = [user for tenant in tenants for user in tenant.users]
        # The same questions by everybody, with and without their own word, on the same bots: what is kept is there.
        opening = [
            (who, 1, asks_by_the_seeds_address, bot, pick) for pick in (4, 0) for who in range(4) for bot in BOTS
        ]
        for who, offset, action, bot, pick in [*opening, *steps]:
            await action(people[who], people[(who + offset) % 4], bot, pick)
            await host.service.container.kit.assistant.settled()
        for me in people:
            await asks_by_the_seeds_address(me, me, "support", 5)
        keeps_to_itself(tenants)
        for me in people:
            assert any(me.secret in text and me.tenant.facts["support"] in text for _, text in me.seen)
        await memory_keeps_to_itself(host.service, tenants)
        await rows_keep_to_themselves(host.service, tenants)
        if host.redis is not None:
            redis_keeps_apart(host.redis, tenants)

    @RULES
    @given(steps=steps)
    def rule(steps: list[tuple[int, int, Any, str, int]]) -> None:
        host.portal.call(run, steps)

    rule()
    near = "l1" if host.redis is None else "l2"
    for cache in ("answers", "semantic", "retrieval"):
        assert host.hits(cache, near) > 0, f"the cache '{cache}' never had a say"
