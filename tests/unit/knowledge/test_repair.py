"""A generation that cannot be written to falls behind and is brought up again; what an index lost is made again."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from app.errors import Unavailable
from app.knowledge.base import Namespace
from app.knowledge.ingest import Ingestor
from app.knowledge.models import DocumentStatus, GenerationRow, GenerationState
from app.knowledge.repair import Repairs
from app.knowledge.repository import ChunkRepository, DocumentRepository, lacking
from tests.support.vectors import WordsEmbedder
from tests.unit.knowledge.conftest import Knowledge

T, B = "acme", "docs"
ACTIVE, SECOND = Namespace(T, B), Namespace(T, B, "gen_2")


class Others(WordsEmbedder):
    """The candidate's embedder."""

    name = "others"


class Room:
    """The room with a second generation, whose embedder is one of its own."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge
        self.others = Others()
        made: tuple[Ingestor, Repairs] = knowledge.with_embedders(knowledge.embedder, self.others)
        self.ingestor, self.repairs = made

    async def state(self, state: GenerationState) -> None:
        async with self.knowledge.db.operator_transaction() as session:
            row = await session.get(GenerationRow, SECOND.generation)
            now, bounds = self.knowledge.clock(), {"largest": 200, "smallest": 40, "overlap": 0}
            row = row or GenerationRow(id=SECOND.generation, tenant_id=T, created_at=now, bot=B, updated_at=now)
            row.embedder, row.bounds, row.report, row.state = "others", bounds, {}, state
            session.add(row)

    async def put(self, text: str, slug: str = "note") -> str:
        return (await self.ingestor.put(T, B, slug, slug.title(), text)).document_id

    async def texts(self, namespace: Namespace) -> set[str]:
        return {chunk.text for chunk, _ in self.knowledge.store.kept.get(namespace, {}).values()}

    async def lacking(self) -> list[str]:
        async with self.knowledge.db.operator_reading() as session:
            return await lacking(session, *SECOND, limit=10)

    async def rows(self, document_id: str) -> dict[str, str]:
        """Status by generation; one chunk in each."""
        async with self.knowledge.db.operator_reading() as session:
            found = await ChunkRepository(session, T).of_document(document_id)
        assert len({row.generation for row in found}) == len(found)
        return {row.generation: row.status for row in found}

    async def status(self, document_id: str) -> tuple[str, str | None]:
        async with self.knowledge.db.operator_reading() as session:
            row = await DocumentRepository(session, T).get(document_id)
        return row.status, row.last_error


@pytest.fixture
def room(knowledge: Knowledge) -> Room:
    return Room(knowledge)


@pytest.mark.parametrize("error", [Unavailable("away", retry_after=1), ValueError("of another kind")])
async def test_a_document_is_ready_while_a_candidate_cannot_be_written_to(room: Room, error: Exception) -> None:
    await room.state(GenerationState.READY)
    room.others.error = error
    document_id = await room.put("The room is cold.")
    assert await room.status(document_id) == (DocumentStatus.READY, None)
    assert await room.rows(document_id) == {"": "ready", "gen_2": "failed"}
    assert (await room.texts(ACTIVE), await room.texts(SECOND)) == ({"The room is cold."}, set())
    assert await room.lacking() == [document_id]
    assert await room.repairs.catch_up() == 0
    room.others.error = None
    assert await room.repairs.catch_up() == 1
    assert await room.lacking() == []
    assert await room.texts(SECOND) == {"The room is cold."}
    assert await room.repairs.catch_up() == 0


async def test_what_a_candidate_missed_of_a_change_is_out_of_it_after_it_caught_up(room: Room) -> None:
    await room.state(GenerationState.READY)
    document_id = await room.put("The room is cold.")
    room.others.error = Unavailable("away", retry_after=1)
    await room.put("The room is warm.")
    assert (await room.texts(ACTIVE), await room.texts(SECOND)) == ({"The room is warm."}, {"The room is cold."})
    assert await room.lacking() == [document_id]
    room.others.error = None
    await room.repairs.catch_up()
    assert await room.texts(SECOND) == {"The room is warm."}
    assert await room.rows(document_id) == {"": "ready", "gen_2": "ready"}


async def test_the_active_index_that_cannot_be_written_to_fails_the_document(room: Room) -> None:
    await room.state(GenerationState.READY)
    room.knowledge.embedder.error = Unavailable("away", retry_after=1)
    with pytest.raises(Unavailable):
        await room.put("The room is cold.")
    assert await room.texts(SECOND) == set()


async def test_a_candidate_that_a_build_fills_is_left_to_the_build(room: Room) -> None:
    await room.put("The room is cold.")
    await room.state(GenerationState.BUILDING)
    assert await room.repairs.catch_up() == 0
    await room.state(GenerationState.READY)
    assert await room.repairs.catch_up() == 1


def _lose_all(room: Room) -> None:
    room.knowledge.store.kept[SECOND].clear()


def _lose_one(room: Room) -> None:
    room.knowledge.store.kept[SECOND].popitem()


@pytest.mark.parametrize("lose", [_lose_all, _lose_one])
async def test_what_a_candidate_lost_is_lacking_until_it_is_made_again(
    room: Room, lose: Callable[[Room], None]
) -> None:
    await room.state(GenerationState.READY)
    for slug in ("one", "two"):
        await room.put(f"The room {slug} is cold.", slug)
    before = await room.texts(SECOND)
    lose(room)
    assert await room.repairs.reconcile(suspected=True) == 0
    assert await room.lacking() != []
    await room.repairs.catch_up()
    assert await room.texts(SECOND) == before


async def test_only_bots_with_something_wrong_are_compared_where_asked(room: Room) -> None:
    await room.put("The room is cold.")
    compared: list[Namespace] = []
    whole = room.knowledge.store.chunk_ids

    async def counted(namespace: Namespace, document_id: str | None = None) -> object:
        compared.append(namespace)
        return await whole(namespace, document_id)

    room.knowledge.store.chunk_ids = counted  # type: ignore[method-assign,assignment]
    assert await room.repairs.reconcile(suspected=True) == 0
    assert compared == []
    assert await room.repairs.reconcile() == 0
    assert compared == [ACTIVE]
    room.knowledge.store.kept[ACTIVE].clear()
    assert await room.repairs.reconcile(suspected=True) == 1
    assert await room.texts(ACTIVE) == {"The room is cold."}


async def test_a_document_that_changed_since_it_was_looked_at_is_left_alone(room: Room) -> None:
    document_id = await room.put("The room is cold.")
    async with room.knowledge.db.operator_reading() as session:
        seen = await DocumentRepository(session, T).get(document_id)
    active = await room.ingestor._generations.active(T, B)
    nothing_stored: dict[str, frozenset[str]] = {}
    async with room.knowledge.db.operator_transaction() as session:
        assert await room.repairs._take(session, seen, active, nothing_stored)
        await session.rollback()
    await room.put("The room is warm.")
    async with room.knowledge.db.operator_transaction() as session:
        assert not await room.repairs._take(session, seen, active, nothing_stored)
    assert await room.status(document_id) == (DocumentStatus.READY, None)


async def test_vectors_without_a_row_go(room: Room) -> None:
    await room.put("The room is cold.")
    kept = room.knowledge.store.kept[ACTIVE]
    [(chunk, vector)] = kept.values()
    stranger = replace(chunk, id="chk_" + "0" * 32)
    kept[stranger.id] = stranger, vector
    assert await room.repairs.reconcile(suspected=True) == 0
    assert list(room.knowledge.store.kept[ACTIVE]) == [chunk.id]
