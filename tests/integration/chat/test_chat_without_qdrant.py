"""What a person who asks sees while the vector server is slow, gone, broken or has changed its key."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.chat.test_chat import CARRY, LEAVE, answer, ask, put_page
from tests.support.fakes.qdrant import KEY, FakeQdrant
from tests.support.service import Service, running
from tests.support.sse import events_of

TIMEOUT_S = 4
"""What a busy machine answers in; only the slow server is waited for that long."""
ENDS_S = 60


@pytest.fixture
async def server() -> AsyncIterator[FakeQdrant]:
    async with FakeQdrant() as fake:
        yield fake


@pytest.fixture
async def service(tmp_path: Path, server: FakeQdrant) -> AsyncIterator[Service]:
    away: dict[str, Any] = {"vectors_url": server.url, "vectors_key": KEY, "vectors_timeout_s": TIMEOUT_S}
    async with running(tmp_path, knowledge=False, **away) as found:
        await put_page(found)
        yield found


async def slow(server: FakeQdrant) -> None:
    server.delay_s = 30


async def gone(server: FakeQdrant) -> None:
    await server.stop()


async def changed_key(server: FakeQdrant) -> None:
    server.key = "another"


async def heal(server: FakeQdrant) -> None:
    server.delay_s, server.key = 0, KEY
    await server.stop()
    await server.start_again()


@pytest.mark.parametrize("fault", [slow, gone, changed_key])
async def test_what_was_answered_before_is_answered_and_anything_else_is_an_honest_503(
    service: Service, server: FakeQdrant, fault: Any
) -> None:
    before = await answer(service, LEAVE, history=[])
    await fault(server)
    kept = await answer(service, LEAVE, history=[])
    assert (kept["cache"], kept["text"]) == ("exact", before["text"])
    refused = await asyncio.wait_for(ask(service, CARRY, history=[]), ENDS_S)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert "vector server" in refused.json()["detail"]
    streamed = await asyncio.wait_for(ask(service, CARRY, history=[], stream=True), ENDS_S)
    assert streamed.status_code == 503 or events_of(streamed.content)[-1].name == "error"
    await heal(server)
    assert "five days" in (await answer(service, CARRY, history=[]))["text"]


async def test_one_lost_answer_or_error_is_not_a_lost_question(service: Service, server: FakeQdrant) -> None:
    server.lose_next_answer("/query/batch")
    assert (await ask(service, LEAVE, history=[])).status_code in (200, 503)
    assert (await answer(service, LEAVE, history=[]))["grounded"]
    server.refuse_next(500, {"status": {"error": "secret text"}}, where="/query/batch")
    refused = await ask(service, CARRY, history=[])
    assert "secret" not in refused.text
    assert "five days" in (await answer(service, CARRY, history=[]))["text"]
