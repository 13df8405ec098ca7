"""A bot from its first page to a forgotten conversation, the same embedded and on servers."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.governance.audit import verify
from app.principal import Principal, Role
from tests.support.claims import signed_in
from tests.support.servers import Backends
from tests.support.service import TENANT, Service, running
from tests.support.sse import events_of, text_of

ADMIN = Principal(TENANT, "test", Role.ADMIN)
BOT = "docs"
PAGE = "# Holidays\n\nEverybody has {} days of paid leave a year.\n\nThe alarm rota gives one extra day off a week."
QUESTION = "How many days of paid leave does everybody have?"


@pytest.fixture
async def service(tmp_path: Path, backends: Backends) -> AsyncIterator[Service]:
    async with running(tmp_path, knowledge=False, **backends) as found:
        yield found


async def put_page(service: Service, days: int) -> None:
    await service.container.kit.ingestor.put(TENANT, BOT, "holidays", "Holidays", PAGE.format(days))


async def ask(service: Service, who: dict[str, str] | None = None, bot: str = BOT, **more: Any) -> dict[str, Any]:
    body = {"message": QUESTION, **more}
    found = await service.client.post(f"/v1/bots/{bot}/chat", json=body, headers=who)
    assert found.status_code == 200, found.text
    return dict(found.json())


async def test_a_bot_answers_remembers_is_judged_and_forgets(service: Service) -> None:
    await put_page(service, 28)
    put = await service.client.put(f"/v1/bots/{BOT}", json={"title": "Handbook", "open_to_users": True})
    assert put.status_code == 200, put.text
    ann = await signed_in(service, "ann")
    first = await ask(service, ann)
    assert "28 days" in first["text"]
    assert [citation["slug"] for citation in first["citations"]] == ["holidays"]
    await the_stream_says_the_same(service, ann)
    await the_conversation_is_hers_until_she_forgets_it(service, ann)
    await the_answer_is_judged_once_and_made_again(service, ann, first["decision_id"])
    assert [bot["name"] for bot in (await service.client.get("/v1/bots")).json()["items"]] == [BOT]
    async with service.container.db.operator_reading() as session:
        assert (await verify(session)).ok


async def the_stream_says_the_same(service: Service, who: dict[str, str]) -> None:
    path = f"/v1/bots/{BOT}/chat"
    streamed = await service.client.post(path, json={"message": QUESTION, "stream": True}, headers=who)
    events = events_of(streamed.content)
    assert events[-1].name == "done"
    assert "28 days" in text_of(events)
    again = await service.client.get(streamed.headers["location"], headers=who | {"Last-Event-ID": events[0].id})
    assert events_of(again.content) == events[1:]


async def the_conversation_is_hers_until_she_forgets_it(service: Service, who: dict[str, str]) -> None:
    memory = service.container.kit.memory
    kept = await memory.recent(TENANT, BOT, "ann")
    assert [turn.text for turn in kept if turn.role == "user"] == [QUESTION] * 2
    assert not await memory.recent("rival", BOT, "ann")
    gone = await service.client.delete(f"/v1/bots/{BOT}/memory", headers=who)
    assert gone.status_code == 204, gone.text
    assert not await memory.recent(TENANT, BOT, "ann")


async def the_answer_is_judged_once_and_made_again(service: Service, who: dict[str, str], decision_id: str) -> None:
    where = f"/v1/bots/{BOT}/answers/{decision_id}/feedback"
    for helpful in (False, True):
        assert (await service.client.post(where, json={"helpful": helpful}, headers=who)).status_code == 200
    assert [row["helpful"] for row in await service.rows("answer_feedback")] == [True]
    assert (await service.container.replay(ADMIN, decision_id)).same
    stranger = {"Authorization": f"Bearer {await service.other_tenant()}"}
    assert (await service.client.post(where, json={"helpful": True}, headers=stranger)).status_code == 404
    assert (await service.client.get(f"/v1/bots/{BOT}", headers=stranger)).status_code == 404
    assert (await service.client.get(f"/v1/decisions/{decision_id}", headers=stranger)).status_code == 404


async def test_a_kept_answer_is_given_until_its_page_or_its_bot_changes(service: Service) -> None:
    await put_page(service, 28)
    fresh: dict[str, Any] = {"history": []}
    assert (await ask(service, **fresh))["cache"] == "none"
    assert (await ask(service, **fresh))["cache"] == "exact"
    await put_page(service, 31)
    changed = await ask(service, **fresh)
    assert (changed["cache"], "31 days" in changed["text"]) == ("none", True)
    assert (await ask(service, **fresh))["cache"] == "exact"
    put = await service.client.put(f"/v1/bots/{BOT}", json={"instructions": "Answer in one sentence."})
    assert put.status_code == 200, put.text
    assert (await ask(service, **fresh))["cache"] == "none"


async def test_the_sample_answers_and_loads_once(service: Service) -> None:
    load = service.container.runtimes["chat"].load_sample
    assert load is not None
    assert await load(ADMIN) >= 10
    assert await load(ADMIN) == 0
    found = await ask(service, bot="handbook", message="What does a week on the alarm rota pay?")
    assert found["citations"][0]["slug"] == "alarm-rota"
    assert not found["refused"]
