"""A person who wrote, chatted and is insured asks to be erased; afterwards no row, file or cached value has them."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.phases import PhaseName
from runbooks.drill.rehearsal import Rehearsal, Stage, Standing
from runbooks.drill.stages.service import Service, served
from runbooks.drill.stages.watched import watched
from tests.chaos.house import TENANT, environment, furnish
from tests.chaos.load import Client, Try, session
from tests.support.observed import until
from tests.support.people import Planted, files_with, tables_with
from tests.support.redis import RedisServer, entries, running

BOT: Final = "docs"
QUESTION: Final = "How long is the warranty on a sensor, and what does it cover?"
OTHER: Final = "somebody.else@example.org"
AGAIN_S: Final = 3
"""After how long the app erases once more what was under way meanwhile."""
WAIT_S: Final = 90.0


@dataclass(kw_only=True)
class Erasing(Standing):
    """`admin`: a client with the tenant's admin key; `member`: the person's own."""

    service: Service
    redis: RedisServer
    admin: Client
    member: Client
    person: Planted

    async def break_it(self) -> None:
        """The person leaves something in every place."""
        await self._write()
        await self._insure()
        await self._chat()
        rows, cached = await asyncio.to_thread(self._in_rows), await asyncio.to_thread(self._in_redis)
        assert {"leads", "lead_messages", "decisions", "claims_members"} <= rows, f"planted in {sorted(rows)} only"
        assert cached, "nothing of the person is in Redis: nothing is shown"

    async def lost(self) -> str:
        """Nothing of them may be left, and all of the others'."""
        await self._settled()
        others = await self.admin.get(f"/v1/people/{OTHER}")
        kept = sum(map(len, others.body["stores"].values()))
        rows, cached = await asyncio.to_thread(self._in_rows), await asyncio.to_thread(self._in_redis)
        await asyncio.to_thread(self.service.server.terminate)
        files = await asyncio.to_thread(_places, files_with(self.service.server.home, self.person.told))
        assert not rows, f"rows are left in {sorted(rows)}"
        assert not cached, f"Redis still has {sorted(cached)}"
        assert not files, f"files still have it: {sorted(files)}"
        assert kept, "somebody else was erased with them"
        return f"nothing of anybody else ({len(self.person.told)} texts of the person are in no row, key or file)"

    async def _write(self) -> None:
        person = self.person
        known = {"name": person.name, "email": person.email, "company": person.company, "phone": person.phone}
        message = f"What does the Operate plan cost for 40 sensors, asks {person.words[0]}?"
        sent = checked(await self.admin.post("/v1/leads", {**known, "message": message}, Idempotency_Key="k-1"))
        lead = sent.body["lead"]["id"]
        other = {"name": "Somebody Else", "email": OTHER, "message": "What does a sensor cost?"}
        checked(await self.admin.post("/v1/leads", other, Idempotency_Key="k-2"))
        await self._decided()
        note = {"kind": "converted", "note": f"likes {person.words[1]}"}
        checked(await self.admin.post(f"/v1/leads/{lead}/outcome", note))

    async def _insure(self) -> None:
        person = self.person
        policy = {"number": person.policy, "product": "Health", "currency": "EUR", "starts_on": "2024-01-01"}
        claim = {"number": person.claim, "policy": person.policy, "benefit": "dental", "incurred_on": "2026-02-01"}
        about = {"state": "in_review", "amount_claimed": 5_000, "note": f"broke on a {person.words[2]}"}
        member = {"user_id": person.user_id, "name": person.name, "email": person.email}
        whole = {**member, "policies": [{**policy, "limits": {"dental": 100_000}}], "claims": [{**claim, **about}]}
        checked(await self.admin.put("/v1/claims/members", {"members": [whole]}))

    async def _chat(self) -> None:
        """With a memory in Redis, and a question whose answer is kept."""
        checked(await self.admin.put(f"/v1/bots/{BOT}", {"semantic_threshold": 0.9, "open_to_users": True}))
        for word in self.person.words[3:]:
            checked(await self.member.post(f"/v1/bots/{BOT}/chat", {"message": f"{QUESTION} My {word} asks."}))

    async def _settled(self) -> None:
        """Until the job that erases once more has ended."""

        async def none_waits() -> bool:
            rows = await asyncio.to_thread(tables_with, self._database, [self.person.email.lower()])
            return not _places(rows)

        await asyncio.sleep(AGAIN_S)
        await until(none_waits, "the second erasure has ended", WAIT_S)

    async def _decided(self) -> None:
        async def all_are() -> bool:
            counts = await self.admin.get("/v1/leads/counts")
            return not counts.body["by_status"].get("new")

        await until(all_are, "every lead is decided", WAIT_S)

    @property
    def _database(self) -> str:
        return f"sqlite:///{self.service.server.home / 'trellis.db'}"

    def _in_rows(self) -> set[str]:
        return _places(tables_with(self._database, self.person.told))

    def _in_redis(self) -> set[str]:
        held = str(entries(self.redis)).lower()
        return {text for text in (*self.person.told, self.person.user_id) if text in held}


def _places(found: Mapping[str, Iterable[str]]) -> set[str]:
    return set().union(*found.values())


def checked(answer: Try) -> Try:
    """Raises AssertionError for what was refused."""
    assert answer.ok, f"refused: {answer.status} {answer.code} {answer.body}"
    return answer


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        redis = stack.enter_context(running(folder / "redis"))
        house = await furnish(folder / "home", {"redis_url": redis.url, "erase_again_s": AGAIN_S}, bots=(BOT,))
        service, kubectl = await enter(served(house.home, environment(house.settings)))
        prometheus = await enter(watched(folder, PhaseName.POC, {"trellis-api": [service.server.port]}))
        http, person = await enter(session()), Planted()
        admin = Client(http, service.server.address, house.key)
        signed_in = checked(await admin.post(f"/v1/users/{person.user_id}/token", {}))
        yield Erasing(
            environment={
                "TENANT": TENANT,
                "API": service.server.address,
                "ADMIN_KEY": house.key,
                "PERSON": person.email,
                "COPY": str(folder / "copy.json"),
            },
            programs={"kubectl": kubectl},
            prometheus=prometheus,
            service=service,
            redis=redis,
            admin=admin,
            member=Client(http, service.server.address, signed_in.body["token"]),
            person=person,
        )


REHEARSAL = Rehearsal(
    page="procedures/erase-a-person",
    alert=None,
    needs=("redis", "prometheus", "alertmanager"),
    stage=stage,
)
