"""The assistant as the container builds it: a real index, a provider that streams over HTTP, one connection to the
database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.container import Container, Parts, migrate_database, open_container
from app.conversation.events import CacheHit, Done, Failed, Token
from app.principal import Principal, Role
from app.settings import load_settings
from loadtest.stub.server import KEY, Cut, Latency, ModelStub, text
from tests.support.conversation import assistant_spec, cited, collected, last_answer, said

ASKER = Principal("acme", "key_asker", Role.AGENT)
ANSWER = "Pro costs nine euro a month for each sensor [1]. It includes alarms by telephone [1]."
QUESTION = "What does Pro cost a month for each sensor?"
PAGE = "# Pricing\n\nPro costs nine euro a month for each sensor and includes alarms by telephone.\n"


@asynccontextmanager
async def service(folder: Path, stub: ModelStub) -> AsyncIterator[Container]:
    """The container over one document, with one connection to the database."""
    configured = load_settings(
        {},
        home=folder,
        log_level="ERROR",
        database_pool_size=1,
        worker=False,
        auth=False,
        model_url=stub.url,
        model_key=KEY,
        model_name="gpt-4o-mini",
        model_input_usd_per_million=10.0,
        model_output_usd_per_million=40.0,
    )
    await migrate_database(configured)
    async with open_container(configured, Parts.SERVER) as container:
        await container.kit.ingestor.put("acme", "support", "pricing", "Pricing", PAGE, [])
        yield container


async def test_a_streamed_turn_over_http_is_cited_paid_and_kept(tmp_path: Path) -> None:
    async with ModelStub(answer=text(ANSWER)) as stub, service(tmp_path, stub) as container:
        assistant, spec = container.kit.assistant, assistant_spec(pack="leads", semantic_threshold=0.9)
        events = await collected(assistant.turn(ASKER, spec, QUESTION, history=[], streamed=True))
        answer = last_answer(events)
        assert said(events) == answer.text == ANSWER
        assert cited(events) == [1]
        assert answer.citations[0].slug == "pricing"
        assert answer.cost_micros > 0
        again = await assistant.answer(ASKER, spec, QUESTION, history=[])
        assert (again.cache, again.saved_micros) == (CacheHit.EXACT, answer.cost_micros)
        await assistant.settled()
        other = await assistant.answer(ASKER, spec, "what does Pro cost a month, for each sensor", history=[])
        assert (other.cache, other.decision_id) == (CacheHit.SEMANTIC, answer.decision_id)
        assert stub.calls == 1


async def test_fifty_open_turns_leave_the_one_connection_to_the_database_free(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with ModelStub(answer=text(ANSWER), gate=gate) as stub, service(tmp_path, stub) as container:
        assistant, spec = container.kit.assistant, assistant_spec(pack="leads")
        turns = [
            asyncio.create_task(collected(assistant.turn(ASKER, spec, f"{QUESTION} ({n})", history=[], streamed=True)))
            for n in range(50)
        ]
        while stub.calls < 50:
            await asyncio.sleep(0.01)
        assert not any(turn.done() for turn in turns)
        async with asyncio.timeout(5), container.db.operator_reading(), container.db.operator_transaction():
            pass
        gate.set()
        results = await asyncio.gather(*turns)
        assert all(isinstance(events[-1], Done) for events in results)


async def test_a_reader_who_leaves_ends_the_providers_stream_and_pays_for_what_came(tmp_path: Path) -> None:
    async with ModelStub(answer=text(ANSWER), latency=Latency(0.0, 0.2)) as stub, service(tmp_path, stub) as container:
        turn = container.kit.assistant.turn(ASKER, assistant_spec(pack="leads"), QUESTION, streamed=True)
        async with aclosing(turn) as events:
            async for event in events:
                if isinstance(event, Token):
                    break
        async with asyncio.timeout(5):
            while not stub.left:
                await asyncio.sleep(0.01)
        paid = container.metrics.registry.get_sample_value
        assert (paid("trellis_answers_total", {"pack": "leads", "outcome": "cancelled", "cache": "none"}) or 0) == 1
        spent = [
            sample.value
            for family in container.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "trellis_model_cost_usd_total"
        ]
        assert sum(spent) > 0
        assert await container.kit.memory.recent("acme", "support", ASKER.user) == []


@pytest.mark.parametrize("how", ["reset", "eof", "error"])
async def test_a_provider_that_dies_mid_stream_is_a_failure_with_a_name(tmp_path: Path, how: Any) -> None:
    async with ModelStub(answer=text(ANSWER), cuts=[Cut(how, after=4)]) as stub, service(tmp_path, stub) as container:
        turn = container.kit.assistant.turn(ASKER, assistant_spec(pack="leads"), QUESTION, streamed=True)
        events = await collected(turn)
        failed = events[-1]
        assert isinstance(failed, Failed)
        assert failed.partial
        assert said(events)
        assert failed.status >= 500
