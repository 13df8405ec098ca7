"""Batches, generations, files; and what happens to a document that changes or goes while it is indexed."""

from collections.abc import Sequence
from typing import Any

import pytest

from app.errors import InvalidInput, NotFound, Unavailable
from app.knowledge.base import Chunk, Namespace, Vectors
from app.knowledge.generations import Generation
from app.knowledge.indexing import BATCH
from app.knowledge.models import ChunkRow, Document, DocumentStatus, GenerationRow, GenerationState, Upload
from app.knowledge.page import File, Page, given_chunks
from app.knowledge.repository import ChunkRepository, DocumentRepository, UploadRepository
from tests.support.reading import Found
from tests.unit.knowledge.conftest import Knowledge

T, B = "acme", "docs"
NS = Namespace(T, B)
PARTS = 2 * BATCH + 10


def long_text(parts: int = PARTS, word: str = "cold") -> str:
    """That many sections, each a chunk of its own."""
    rest = " So." * 10
    return "\n\n".join(f"## Part {n}\n\nIn part {n} the {word} room {n} is spoken of.{rest}" for n in range(parts))


def file(text: str, slug: str = "notes", title: str | None = None) -> File:
    return File.of(slug, title, text.encode("latin-1"), (), "text/plain", f"{slug}.txt")


async def kept(knowledge: Knowledge, given: Page | File) -> Document:
    async with knowledge.db.operator_transaction() as session:
        return (await knowledge.ingestor.keep(session, T, B, given))[0]


async def document_of(knowledge: Knowledge, document_id: str) -> Document | None:
    async with knowledge.db.operator_reading() as session:
        return await DocumentRepository(session, T).find(document_id)


async def chunk_rows(knowledge: Knowledge, document_id: str) -> Sequence[ChunkRow]:
    async with knowledge.db.operator_reading() as session:
        return await ChunkRepository(session, T).of_document(document_id)


async def upload_of(knowledge: Knowledge, document_id: str) -> Upload | None:
    async with knowledge.db.operator_reading() as session:
        return await UploadRepository(session, T).find(document_id)


async def stored(knowledge: Knowledge, namespace: Namespace = NS) -> set[str]:
    found = await knowledge.store.chunk_ids(namespace)
    return {chunk_id for ids in found.values() for chunk_id in ids}


class Crash(BaseException):
    """The process ends here."""


def upsert_that(knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch, number: int, does: Any) -> None:
    """Something happens in place of the batch with that number, from 0."""
    upsert, seen = knowledge.store.upsert, [0]

    async def replaced(namespace: Namespace, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        seen[0] += 1
        if seen[0] == number + 1:
            await does()
        await upsert(namespace, chunks, vectors)

    monkeypatch.setattr(knowledge.store, "upsert", replaced)


async def crash() -> None:
    raise Crash


async def test_after_a_crash_only_what_is_missing_is_embedded(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await kept(knowledge, Page("long", "Long", long_text(), ()))
    with monkeypatch.context() as patched:
        upsert_that(knowledge, patched, 2, crash)
        with pytest.raises(Crash):
            await knowledge.ingestor.process(T, document.id)
    states = [row.status for row in await chunk_rows(knowledge, document.id)]
    assert states.count("ready") == 2 * BATCH
    knowledge.embedder.asked.clear()
    done = await knowledge.ingestor.process(T, document.id)
    assert (done.status, done.chunks) == (DocumentStatus.READY, PARTS)
    assert len(knowledge.embedder.asked) == PARTS - states.count("ready")
    rows = await chunk_rows(knowledge, document.id)
    assert await stored(knowledge) == {row.id for row in rows}
    assert {row.status for row in rows} == {"ready"}


async def test_a_batch_that_fails_says_so_and_the_others_stay(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> None:
        raise Unavailable("The index is away.", retry_after=1)

    document = await kept(knowledge, Page("long", "Long", long_text(), ()))
    with monkeypatch.context() as patched:
        upsert_that(knowledge, patched, 1, refuse)
        with pytest.raises(Unavailable):
            await knowledge.ingestor.process(T, document.id)
    rows = await chunk_rows(knowledge, document.id)
    assert {row.status: [r.status for r in rows].count(row.status) for row in rows} == {
        "ready": BATCH,
        "failed": BATCH,
        "queued": PARTS - 2 * BATCH,
    }
    assert {row.last_error for row in rows if row.status == "failed"} == {"The index is away."}
    failed = await document_of(knowledge, document.id)
    assert failed is not None
    assert (failed.status, failed.last_error) == ("failed", "The index is away.")
    await knowledge.ingestor.process(T, document.id)
    assert {(row.status, row.last_error) for row in await chunk_rows(knowledge, document.id)} == {("ready", None)}


async def test_an_error_that_passes_is_waited_for(knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.knowledge.indexing.FIRST_WAIT_S", 0.001)
    embed, refusals = knowledge.embedder.embed, [Unavailable("away", retry_after=1), Unavailable("away", retry_after=1)]

    async def moody(texts: Sequence[str]) -> Vectors:
        if refusals:
            raise refusals.pop()
        return await embed(texts)

    monkeypatch.setattr(knowledge.embedder, "embed", moody)
    document = await kept(knowledge, Page("note", "Note", "The room is cold.", ()))
    assert (await knowledge.ingestor.process(T, document.id, attempts=3)).status == DocumentStatus.READY


async def test_a_document_deleted_while_it_is_indexed_leaves_nothing(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await kept(knowledge, Page("long", "Long", long_text(), ()))

    async def delete() -> None:
        await knowledge.ingestor.delete(T, B, "long")

    upsert_that(knowledge, monkeypatch, 1, delete)
    with pytest.raises(NotFound):
        await knowledge.ingestor.process(T, document.id)
    assert await stored(knowledge) == set()
    assert await chunk_rows(knowledge, document.id) == []


async def test_a_document_deleted_in_its_last_batch_leaves_nothing(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await kept(knowledge, Page("note", "Note", "The room is cold.", ()))

    async def delete() -> None:
        await knowledge.ingestor.delete(T, B, "note")

    upsert_that(knowledge, monkeypatch, 0, delete)
    with pytest.raises(NotFound):
        await knowledge.ingestor.process(T, document.id)
    assert await stored(knowledge) == set()


async def test_content_that_changes_while_it_is_indexed_wins(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await kept(knowledge, Page("long", "Long", long_text(), ()))

    async def change() -> None:
        await kept(knowledge, Page("long", "Long", "Only the warm room is left.", ()))

    with monkeypatch.context() as patched:
        upsert_that(knowledge, patched, 1, change)
        done = await knowledge.ingestor.process(T, document.id)
    assert (done.status, done.changed) == (DocumentStatus.QUEUED, False)
    assert (await knowledge.ingestor.process(T, document.id)).chunks == 1
    [row] = await chunk_rows(knowledge, document.id)
    assert "warm room" in row.text
    assert await stored(knowledge) == {row.id}


async def test_the_former_content_answers_until_the_new_one_is_whole(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await knowledge.ingestor.put(T, B, "long", "Long", long_text())
    before = await stored(knowledge)
    document = await kept(knowledge, Page("long", "Long", long_text(word="warm"), ()))
    with monkeypatch.context() as patched:
        upsert_that(knowledge, patched, 2, crash)
        with pytest.raises(Crash):
            await knowledge.ingestor.process(T, document.id)
    assert before < await stored(knowledge)
    assert {row.id for row in await chunk_rows(knowledge, document.id) if row.superseded} == before
    async with knowledge.db.operator_reading() as session:
        counts = await ChunkRepository(session, T).counts(document.id)
    assert sum(counts[""].values()) == PARTS
    await knowledge.ingestor.process(T, document.id)
    rows = await chunk_rows(knowledge, document.id)
    assert await stored(knowledge) == {row.id for row in rows}
    assert not before & {row.id for row in rows}


async def second_generation(knowledge: Knowledge) -> Generation:
    async with knowledge.db.operator_transaction() as session:
        session.add(
            GenerationRow(
                id="gen_2",
                tenant_id=T,
                created_at=knowledge.clock(),
                bot=B,
                embedder="words",
                bounds={"largest": 400, "smallest": 40, "overlap": 0},
                state=GenerationState.BUILDING,
                report={},
                updated_at=knowledge.clock(),
            )
        )
    return (await knowledge.ingestor._generations.written(T, B))[1]


async def test_every_generation_that_is_kept_up_gets_the_document_and_loses_it(knowledge: Knowledge) -> None:
    second = await second_generation(knowledge)
    document_id = (await knowledge.ingestor.put(T, B, "long", "Long", long_text(5))).document_id
    for namespace in (NS, NS._replace(generation=second.id)):
        held = {row.id for row in await chunk_rows(knowledge, document_id) if row.generation == namespace.generation}
        assert await stored(knowledge, namespace) == held != set()
    assert not await stored(knowledge) & await stored(knowledge, NS._replace(generation=second.id))
    await knowledge.ingestor.delete(T, B, "long")
    assert await stored(knowledge) == set() == await stored(knowledge, NS._replace(generation=second.id))


async def test_a_generation_is_added_beside_the_one_that_answers(knowledge: Knowledge) -> None:
    document_id = (await knowledge.ingestor.put(T, B, "long", "Long", long_text(5))).document_id
    before = {row.id for row in await chunk_rows(knowledge, document_id)}
    second = await second_generation(knowledge)
    assert await knowledge.ingestor.indexer.add(T, document_id, second)
    rows = await chunk_rows(knowledge, document_id)
    assert {row.id for row in rows if row.generation == ""} == before == await stored(knowledge)
    added = {row.id for row in rows if row.generation == second.id}
    assert added == await stored(knowledge, NS._replace(generation=second.id)) != set()
    assert not any(row.superseded or row.status != "ready" for row in rows)
    knowledge.embedder.asked.clear()
    assert await knowledge.ingestor.indexer.add(T, document_id, second)
    assert knowledge.embedder.asked == []
    assert not await knowledge.ingestor.indexer.add(T, "doc_gone", second)
    assert not await knowledge.ingestor.indexer.add("other", document_id, second)


async def test_a_file_is_read_and_then_no_longer_kept(knowledge: Knowledge) -> None:
    document = await kept(knowledge, file("TITLE:What it says\nThe room is cold."))
    assert (document.title, document.body, document.status) == ("notes", "", "queued")
    assert await upload_of(knowledge, document.id) is not None
    assert (await knowledge.ingestor.process(T, document.id)).status == DocumentStatus.READY
    done = await document_of(knowledge, document.id)
    assert done is not None
    assert (done.title, done.body) == ("What it says", "The room is cold.")
    assert await upload_of(knowledge, document.id) is None
    assert not (await knowledge.ingestor.process(T, document.id)).changed
    assert knowledge.reader.asked == ["notes.txt"]


async def test_a_title_that_was_given_stays(knowledge: Knowledge) -> None:
    document = await kept(knowledge, file("TITLE:What it says\nThe room is cold.", title="Mine"))
    await knowledge.ingestor.process(T, document.id)
    done = await document_of(knowledge, document.id)
    assert done is not None
    assert done.title == "Mine"


async def test_a_file_that_cannot_be_read_says_why_and_is_kept_for_another_try(knowledge: Knowledge) -> None:
    document = await kept(knowledge, file("\xe9\xff"))
    with pytest.raises(InvalidInput):
        await knowledge.ingestor.process(T, document.id)
    failed = await document_of(knowledge, document.id)
    assert failed is not None
    assert (failed.status, failed.last_error) == ("failed", "'notes.txt' is no text: save it as UTF-8.")
    assert await upload_of(knowledge, document.id) is not None
    knowledge.reader.text = _reads_anything  # type: ignore[method-assign,assignment]
    assert (await knowledge.ingestor.process(T, document.id)).status == DocumentStatus.READY


async def _reads_anything(content: bytes, media_type: str, file_name: str | None) -> Any:
    return Found(None, "Read after all.")


async def test_what_a_sender_cut_is_not_cut_again(knowledge: Knowledge) -> None:
    texts = ["A piece. " * 100, "B", "B"]
    document = await kept(knowledge, given_chunks("cut", "Cut", texts, ["x"]))
    await knowledge.ingestor.process(T, document.id)
    rows = await chunk_rows(knowledge, document.id)
    assert [row.text for row in rows] == texts
    assert len({row.id for row in rows}) == 3
    assert {row.heading for row in rows} == {"Cut"}


async def test_what_changes_is_told_to_the_caches(knowledge: Knowledge) -> None:
    document_id = (await knowledge.ingestor.put(T, B, "note", "Note", "The room is cold.")).document_id
    assert knowledge.caches.dropped == [f"document:{T}:{document_id}"]
    await knowledge.ingestor.put(T, B, "note", "Note", "The room is cold.")
    assert len(knowledge.caches.dropped) == 1
    await knowledge.ingestor.delete(T, B, "note")
    assert knowledge.caches.dropped[1:] == [f"document:{T}:{document_id}", f"bot:{T}:{B}"]


async def test_each_end_is_counted(knowledge: Knowledge) -> None:
    await knowledge.ingestor.put(T, B, "note", "Note", "The room is cold.")
    await knowledge.ingestor.put(T, B, "note", "Note", "The room is cold.")
    knowledge.embedder.error = Unavailable("away", retry_after=1)
    with pytest.raises(Unavailable):
        await knowledge.ingestor.put(T, B, "note", "Note", "The room is warm.")
    counted = {o: knowledge.sample("ingest_documents_total", outcome=o) for o in ("ready", "unchanged", "failed")}
    assert counted == {"ready": 1, "unchanged": 1, "failed": 1}
    assert knowledge.sample("ingest_chunks_total") == 1
    assert knowledge.sample("ingest_duration_seconds_count") == 1
