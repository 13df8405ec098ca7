"""The second answer to a question comes from this process's cache, at the edge: it is the first one, and no staler."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.conversation.assistant import Assistant
from app.governance.flags import KILL
from app.principal import EVERY_TENANT, Principal, Role
from loadtest.stub.server import KEY, ModelStub, text
from tests.support.service import TENANT, Service, running

QUESTION = "How many days of paid leave does everybody have?"
TURN = {"message": QUESTION, "history": []}
PAGE = "# Holidays\n\nEverybody has {days} days of paid leave a year."


@pytest.fixture
async def service(tmp_path) -> AsyncIterator[Service]:
    async with (
        ModelStub(text("They have the days that the handbook says [1].")) as stub,
        running(tmp_path, knowledge=False, model_url=stub.url, model_key=KEY, model_name="stub") as found,
    ):
        await put_page(found, 28)
        yield found


async def put_page(service: Service, days: int) -> None:
    await service.container.kit.ingestor.put(TENANT, "docs", "holidays", "Holidays", PAGE.format(days=days))


async def ask(service: Service, path: str = "/v1/bots/docs/chat", **more: Any) -> Any:
    return await service.client.post(path, json=TURN | more)


def without_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on an answer that does not come from the edge fails."""

    async def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the endpoint was asked")

    monkeypatch.setattr(Assistant, "answer", refuse)


@pytest.mark.parametrize(("path", "more"), [("/v1/bots/docs/chat", {}), ("/chat", {"bot_id": "docs"})])
async def test_the_same_question_is_answered_without_the_endpoint(service, monkeypatch, path, more):
    first = (await ask(service)).json()
    without_turns(monkeypatch)
    again = await ask(service, path, **more)
    assert again.status_code == 200
    kept = again.json()
    assert (first["cache"], kept["cache"], kept["cost_usd"]) == ("none", "exact", 0)
    changed = {"cache", "cost_usd", "saved_usd", "model_ms", "duration_ms"}
    assert {name: kept[name] for name in kept.keys() - changed} == {
        name: first[name] for name in first.keys() - changed
    }


async def test_what_is_at_hand_is_remembered_as_said(service, monkeypatch):
    await ask(service)
    principal = await service.container.keys.authenticate(service.key)
    without_turns(monkeypatch)
    found = await service.client.post("/v1/bots/docs/chat", json={"message": QUESTION})
    turns = await service.container.kit.memory.recent(TENANT, "docs", principal.user)
    assert found.json()["cache"] == "exact"
    assert [turn.text for turn in turns] == [QUESTION, found.json()["text"]]


@pytest.mark.parametrize("more", [{"message": ""}, {"message": QUESTION, "colour": "red"}, {"history": "none"}])
async def test_a_wrong_body_is_refused_though_its_question_is_known(service, more):
    await ask(service)
    assert (await ask(service, **more)).status_code == 422


async def test_a_changed_document_a_changed_bot_and_the_kill_switch_end_it_at_once(service):
    assert [(await ask(service)).json()["cache"] for _ in range(2)] == ["none", "exact"]
    await put_page(service, 30)
    changed = (await ask(service)).json()
    assert (changed["cache"], "30 days" in changed["citations"][0]["quote"]) == ("none", True)
    await service.client.put("/v1/bots/docs", json={"passages": 2})
    assert (await ask(service)).json()["cache"] == "none"
    container = service.container
    async with container.db.operator_transaction() as session:
        operator = Principal(EVERY_TENANT, "operator", Role.ADMIN)
        await container.flags.set(session, operator, f"{KILL}chat", True, TENANT)
    await container.flags.refresh()
    assert (await ask(service)).status_code == 503
