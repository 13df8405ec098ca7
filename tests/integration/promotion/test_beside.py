"""What moves beside the rows: the index from the rows alone, conversations by the file, a sample of answers."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.cache.connection import connect
from app.clock import system_clock
from app.container.index import Index, open_index
from app.errors import ConfigError, Conflict, Unavailable
from app.governance.models import Decision, DecisionState
from app.knowledge.base import Namespace
from app.knowledge.edge import EdgeVectors, owner_of
from app.knowledge.ingest import Ingestor
from app.knowledge.repository import ChunkRepository
from app.knowledge.versions import IndexVersions
from app.memory import MemoryFile, RedisMemory, Talk, Turn
from app.promotion import vectors
from app.promotion.answers import Sample
from app.promotion.beside import open_steps
from app.promotion.memory import MemoryStep, end_server
from app.promotion.steps import Context, Step
from app.promotion.vectors import VectorFill, VectorStep
from app.settings import Settings, load_settings
from app.storage.db import Database
from app.telemetry.setup import build_metrics
from tests.support.databases import Addresses
from tests.support.fakes.qdrant import KEY, FakeQdrant
from tests.support.fakes.qdrant_embedded import EmbeddedPoints
from tests.support.redis import RedisServer
from tests.support.service import TENANT, running

BOT = Namespace(TENANT, "handbook")
pytestmark = pytest.mark.timeout(180)


@dataclass
class Moves:
    """A promotion's two ends, whose rows are the same."""

    source: Settings
    target: Settings
    told: list[tuple[str, int, int]] = field(default_factory=list)

    def context(self, *, back: bool = False) -> Context:
        sides: Any = None
        ends = (self.target, self.source) if back else (self.source, self.target)
        return Context(*ends, sides, sides, lambda *told: self.told.append(told), back)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("poc")


@pytest.fixture
async def moves(made: Path, tmp_path: Path) -> AsyncIterator[Moves]:
    """The source as its server left it, and a target with its rows and an empty index."""
    if not (made / "trellis.db").exists():
        async with running(made, knowledge=False) as service:
            for number in range(24):
                text = f"Shelf {number} holds {number * 7} jars of honey. The key hangs beside door {number % 5}."
                await service.container.kit.ingestor.put(TENANT, "handbook", f"shelf-{number}", f"Shelf {number}", text)
    shutil.copytree(made, tmp_path / "poc")
    shutil.copytree(made, tmp_path / "small", ignore=shutil.ignore_patterns("vectors"))
    points: Any = EmbeddedPoints(tmp_path / "qdrant")
    async with FakeQdrant(local=points) as fake:
        source = load_settings({}, home=tmp_path / "poc")
        yield Moves(source, load_settings({}, home=tmp_path / "small", vectors_url=fake.url, vectors_key=KEY))


async def ids_of(index: Index, namespace: Namespace = BOT) -> set[str]:
    return {chunk for ids in (await index.store.chunk_ids(namespace)).values() for chunk in ids}


def _ingestor(rows: Index) -> Ingestor:
    """Changes rows, and an index that nobody asks."""
    versions, metrics = IndexVersions(rows.db, system_clock), build_metrics("test", "poc")
    return Ingestor(rows.db, rows.store, rows.generations, versions, metrics, system_clock)


async def _expected(index: Index) -> set[str]:
    async with index.db.reading(TENANT) as session:
        return {
            chunk for ids in (await ChunkRepository(session, TENANT).evidence_ids("handbook")).values() for chunk in ids
        }


def _memory() -> Step:
    return MemoryStep(system_clock)


async def test_the_new_index_holds_what_the_old_one_did(moves: Moves) -> None:
    async with open_index(moves.source) as old:
        expected = await ids_of(old)
    async with open_steps(moves.source, moves.target) as steps, open_index(moves.target) as new:
        step = steps[0]
        first = await step.run(moves.context())
        assert first.figures["embedded"] >= len(expected) == len(await ids_of(new))
        assert await ids_of(new) == expected
        assert moves.told[-1] == ("vectors", first.figures["embedded"], first.figures["embedded"])
        assert (await step.run(moves.context())).figures["embedded"] == 0
        assert [finding.passed for finding in (await step.settle(moves.context())).findings] == [True]
        await new.store.delete_chunks(BOT, sorted(expected)[:2])
        with pytest.raises(Unavailable, match="22 for 24 of acme/handbook"):
            await step.settle(moves.context())


async def test_a_run_that_was_cut_short_goes_on(moves: Moves, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "EMBEDDED_AT_ONCE", 8)
    async with open_index(moves.target) as index:
        upsert, calls = index.store.upsert, []

        async def twice(*given: Any) -> None:
            calls.append(given)
            if len(calls) > 2:
                raise Unavailable("gone", retry_after=1)
            await upsert(*given)

        monkeypatch.setattr(index.store, "upsert", twice)
        with pytest.raises(Unavailable):
            await VectorFill(index).fill()
    async with open_index(moves.target) as index:
        found = await VectorFill(index).off()
        filled = await VectorFill(index).fill()
        assert filled.embedded == sum(one.rows for one in found) - 16
        assert await VectorFill(index).off() == []


async def test_what_changed_since_is_brought_and_what_went_is_taken_out(moves: Moves) -> None:
    async with open_steps(moves.source, moves.target) as steps:
        await steps[0].run(moves.context())
        # Rows change as a catch-up changes them: without the target's index being told.
        async with open_index(moves.target, scratch=True) as rows:
            ingestor = _ingestor(rows)
            await ingestor.put(TENANT, "handbook", "shelf-3", "Shelf 3", "Shelf 3 burned down.")
            await ingestor.put(TENANT, "handbook", "shelf-99", "Shelf 99", "Shelf 99 is new.")
            await ingestor.delete(TENANT, "handbook", "shelf-4")
            await ingestor.put(TENANT, "other", "one", "One", "The only page of a bot of its own.")
            expected = await _expected(rows)
        settled = await steps[0].settle(moves.context())
        assert (settled.figures["embedded_in_switch"], settled.figures["removed_in_switch"]) == (3, 2)
    async with open_index(moves.target) as index:
        assert (await ids_of(index), len(await ids_of(index, Namespace(TENANT, "other")))) == (expected, 1)


async def test_a_bot_whose_documents_are_all_gone_leaves_no_vectors(moves: Moves) -> None:
    async with open_steps(moves.source, moves.target) as steps:
        await steps[0].run(moves.context())
        async with open_index(moves.target, scratch=True) as rows:
            await _ingestor(rows).forget(TENANT, "handbook")
        await steps[0].settle(moves.context())
    async with open_index(moves.target) as index:
        assert await ids_of(index) == set()


async def test_a_switch_waits_for_no_more_than_it_can(moves: Moves, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SETTLED_AT_MOST", 20)
    async with open_steps(moves.source, moves.target) as steps, open_index(moves.target) as index:
        with pytest.raises(Unavailable, match="more than 20"):
            await steps[0].settle(moves.context())
        assert await ids_of(index) == set()


async def test_another_embedder_is_refused_with_what_to_do(moves: Moves) -> None:
    remote = moves.target.model_copy(update={"embedding_url": "http://127.0.0.1:1/v1", "embedding_name": "other"})
    async with open_index(remote) as index:
        with pytest.raises(ConfigError, match=r"wordllama.*other-1536.*TRELLIS_EMBEDDING"):
            await VectorStep(index).run(moves.context())


async def test_both_sides_answer_alike_and_a_poorer_index_ends_the_promotion(moves: Moves) -> None:
    async with open_steps(moves.source, moves.target, sampled=12) as steps:
        index, answers, _ = steps
        with pytest.raises(Conflict, match=r"answers otherwise: 0\.0% of the passages"):
            await answers.run(moves.context())
        await index.run(moves.context())
        report = await answers.run(moves.context())
        assert report.figures["questions"] >= 12
        assert (report.figures["overlap"], report.figures["same_answers"]) == (1, 1)
        assert [finding.passed for finding in report.findings] == [True]


async def test_a_database_that_goes_is_one_sentence(moves: Moves) -> None:
    away = {"phase": "small", "database_url": "postgresql+asyncpg://trellis:hidden@127.0.0.1:1/none"}
    with pytest.raises(Unavailable, match="run the same command again") as told:
        async with open_steps(moves.source, moves.target.model_copy(update=away)) as steps:
            await steps[0].run(moves.context())
    assert "hidden" not in told.value.detail


async def test_decisions_are_compared_as_values_and_one_that_differs_calls_the_switch_off(
    moves: Moves, migrated_postgres: Addresses
) -> None:
    target = moves.target.model_copy(update={"database_url": migrated_postgres.app_url})
    inputs = {"zebra": 1, "ant": [1.5, None, {"z": "é", "a": True}]}
    for settings in (moves.source, target):
        await keep_decision(settings, inputs)
    async with open_steps(moves.source, target, sampled=5) as steps:
        report = await steps[1].settle(moves.context())
        assert report.figures == {"decisions": 1}
        await keep_decision(target, inputs, reason="another")
        with pytest.raises(Conflict, match="1 of 1 decisions are explained otherwise"):
            await steps[1].settle(moves.context())


async def keep_decision(settings: Settings, inputs: dict[str, Any], reason: str = "why") -> None:
    row = Decision(
        id="dec_0",
        tenant_id=TENANT,
        created_at=datetime(2026, 3, 2, tzinfo=UTC),
        pack="leads",
        subject_id="lead_0",
        trigger_id="msg_0",
        trigger_key="leads:msg_0",
        action="reply",
        confidence=0.75,
        reason=reason,
        state=DecisionState.DONE,
        inputs=inputs,
        evidence=[],
        tool_calls=[],
    )
    db = Database(settings.sqlalchemy_url)
    async with db.transaction(TENANT) as session:
        await session.merge(row)
    await db.close()


async def test_the_way_back_fills_the_old_folder_and_asks_nothing_of_a_vector_server_that_is_gone(moves: Moves) -> None:
    gone = moves.target.model_copy(update={"vectors_url": "http://127.0.0.1:1"})
    async with open_index(moves.source) as index:
        expected = await ids_of(index)
        await index.store.drop(BOT)
    async with open_steps(gone, moves.source, back=True) as steps:
        for step in steps[:2]:
            await step.run(moves.context(back=True))
            await step.settle(moves.context(back=True))
    async with open_index(moves.source) as index:
        assert await ids_of(index) == expected


async def test_an_embedder_that_is_gone_is_in_nobodys_way_back(moves: Moves) -> None:
    old = moves.source.model_copy(update={"embedding_url": "http://127.0.0.1:1/v1", "embedding_name": "other"})
    async with open_steps(moves.target, old, back=True) as steps:
        (finding,) = (await steps[0].settle(moves.context(back=True))).findings
    assert (finding.passed, "at its next start" in finding.seen) == (False, True)


async def test_a_server_that_still_has_the_folder_is_named(moves: Moves) -> None:
    store = EdgeVectors.open(moves.source.home / "vectors")
    with pytest.raises(ConfigError, match=f"pid {os.getpid()}"):
        async with open_steps(moves.target, moves.source, back=True):
            pass
    await store.close()


async def test_a_sample_is_the_same_for_the_same_rows(moves: Moves) -> None:
    async with open_index(moves.source, scratch=True) as here, open_index(moves.target, scratch=True) as there:
        samples = (Sample(here.db, size=9), Sample(there.db, size=9), Sample(here.db, size=9, seed=1))
        one, same, other = [await sample.questions() for sample in samples]
    assert one == same != other
    assert len({asked.question for asked in one if asked.bot == "handbook"}) >= 8


@pytest.fixture
def place(redis_server: RedisServer) -> Iterator[str]:
    redis_server.client().flushall()
    yield redis_server.url
    redis_server.client().flushall()


async def test_conversations_go_to_redis_and_come_back_to_the_file(tmp_path: Path, place: str) -> None:
    poc = load_settings({}, home=tmp_path)
    moves = Moves(poc, load_settings({}, home=tmp_path / "none", redis_url=place))
    file, step, now = MemoryFile(tmp_path, system_clock), _memory(), system_clock()
    said = [Talk(TENANT, "shop", user, (Turn("user", user, now),), ("before", now)) for user in ("ann", "bob")]
    await file.write(said)
    for moved in (2, 0):
        assert (await step.verify(moves.context())).figures == {"conversations": moved}
    assert not file.path.exists()
    link = connect(place)
    redis = RedisMemory(link, system_clock)
    await redis.add(TENANT, "shop", "ann", Turn("assistant", "later", system_clock()))
    report = await step.verify(moves.context(back=True))
    assert report.figures == {"conversations": 2}
    back = {talk.user: [turn.text for turn in talk.turns] for talk in await file.take()}
    assert back == {"ann": ["ann", "later"], "bob": ["bob"]}
    assert [talk async for talk in redis.talks()] == []
    await link.close()


async def test_what_cannot_be_moved_stays_and_is_named(tmp_path: Path) -> None:
    moves = Moves(load_settings({}, home=tmp_path), load_settings({}, home=tmp_path, redis_url="redis://127.0.0.1:1/0"))
    file, now = MemoryFile(tmp_path, system_clock), system_clock()
    await file.write([Talk(TENANT, "shop", "ann", (Turn("user", "hers", now),))])
    (finding,) = (await MemoryStep(system_clock, attempts=1).verify(moves.context())).findings
    assert not finding.passed
    assert "stay where they are" in finding.seen
    assert len(await file.take()) == 1


async def test_a_server_that_has_the_folder_is_ended_and_waited_for(tmp_path: Path) -> None:
    held = "import asyncio, signal, sys, time, pathlib; from app.knowledge.edge import EdgeVectors\n"
    held += "store = EdgeVectors.open(pathlib.Path(sys.argv[1])); print('open', flush=True)\n"
    held += "signal.sigwait([signal.SIGTERM]); time.sleep(0.3); asyncio.run(store.close())"
    program = [sys.executable, "-c", "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [15])\n" + held]
    process = await asyncio.create_subprocess_exec(*program, str(tmp_path / "vectors"), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"open\n"
    assert owner_of(tmp_path / "vectors") == process.pid
    await end_server(load_settings({}, home=tmp_path))
    assert await process.wait() == 0
    assert owner_of(tmp_path / "vectors") is None
    await end_server(load_settings({}, home=tmp_path))


async def test_nobody_ends_the_process_that_asks(tmp_path: Path) -> None:
    store = EdgeVectors.open(tmp_path / "vectors")
    assert owner_of(tmp_path / "vectors") == os.getpid()
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    with pytest.raises(ConfigError, match="ended by you"):
        await end_server(load_settings({}, home=tmp_path))
    signal.signal(signal.SIGTERM, before)
    await store.close()
    assert asked == []
