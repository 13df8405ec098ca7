"""Documents, their jobs and the generations of an index behave the same embedded and on servers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from aiohttp import web

from app.jobs.port import JobState
from app.knowledge.base import Namespace
from app.knowledge.page import Page
from app.principal import Principal, Role
from tests.support.on_loopback import on_loopback
from tests.support.servers import Backends
from tests.support.service import TENANT, Service, running
from tests.support.vectors import DIMENSION, embed_words

BOT = "docs"
DOCUMENTS, INDEX = f"/v1/bots/{BOT}/documents", f"/v1/bots/{BOT}/index"
REMOTE = f"far-{DIMENSION}"
WAIT_S = 60.0


class EmbeddingServer:
    """An OpenAI-compatible embedder over HTTP, which can be made to fail."""

    def __init__(self) -> None:
        self.broken = False

    async def answer(self, request: web.Request) -> web.Response:
        if self.broken:
            return web.Response(status=500)
        texts = orjson.loads(await request.read())["input"]
        rows = [{"index": row, "embedding": embed_words(text).tolist()} for row, text in enumerate(texts)]
        return web.json_response({"data": rows})


@pytest.fixture
async def far() -> AsyncIterator[tuple[EmbeddingServer, str]]:
    server, app = EmbeddingServer(), web.Application()
    app.router.add_post("/v1/embeddings", server.answer)
    async with on_loopback(app) as address:
        yield server, f"{address}/v1"


class Docs:
    """One bot's documents and index over HTTP."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.client = service.client

    async def send(self, slug: str, text: str) -> dict[str, Any]:
        answer = await self.client.post(DOCUMENTS, json={"slug": slug, "title": slug.title(), "text": text})
        assert answer.status_code in (200, 202), answer.text
        return dict(answer.json())

    async def put(self, slug: str, text: str) -> dict[str, Any]:
        """The document once its job has ended."""
        return await self.settled((await self.send(slug, text))["document_id"])

    async def settled(self, document_id: str) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            while True:
                found = (await self.client.get(f"{DOCUMENTS}/{document_id}")).json()
                if found["status"] in ("ready", "failed"):
                    return dict(found)
                await asyncio.sleep(0.05)

    async def found(self, question: str) -> list[str]:
        answer = await self.client.get(f"/v1/bots/{BOT}/search", params={"q": question, "limit": 20})
        assert answer.status_code == 200, answer.text
        return [passage["slug"] for passage in answer.json()["items"]]

    async def in_flight(self) -> bool:
        """Whether a document's job has yet to end."""
        documents = await self.service.rows("documents")
        states = await self.service.container.kit.jobs.states([row["job_id"] for row in documents if row["job_id"]])
        return any(state in (JobState.QUEUED, JobState.RUNNING) for state in states.values())

    async def post(self, path: str, **body: Any) -> httpx2.Response:
        return await self.client.post(f"{INDEX}{path}", json=body or None)

    async def built(self, **asked: Any) -> str:
        answer = await self.post("/generations", **asked)
        assert answer.status_code == 202, answer.text
        name = str(answer.json()["generation"])
        await self.generation(name, "ready")
        return name

    async def generation(self, name: str, state: str) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            while True:
                index = (await self.client.get(INDEX)).json()
                found = next(one for one in index["generations"] if one["id"] == name)
                if found["state"] == state:
                    return dict(found)
                assert found["state"] == "building", found
                await asyncio.sleep(0.05)

    async def in_step(self, generation: str = "") -> set[str]:
        """Slugs in a generation, whose vectors are those that its rows tell of, each `ready`."""
        slugs = {row["id"]: row["slug"] for row in await self.service.rows("documents")}
        vectors = await self.service.container.kit.ingestor._store.chunk_ids(Namespace(TENANT, BOT, generation))
        rows: dict[str, set[str]] = {}
        for row in await self.service.rows("chunks"):
            if row["generation"] == generation and not row["findings"]:
                assert (row["status"], row["superseded"]) == ("ready", False), row
                rows.setdefault(row["document_id"], set()).add(row["id"])
        assert rows == {document: set(ids) for document, ids in vectors.items()}
        return {slugs[document] for document in rows}


@pytest.fixture
async def docs(tmp_path: Path, backends: Backends) -> AsyncIterator[Docs]:
    async with running(tmp_path, knowledge=False, **backends) as service:
        yield Docs(service)


def sections(number: int, word: str) -> str:
    return "\n\n".join(
        f"## Part {n}\n\nIn part {n} the {word} room {n} is spoken of." + " So." * 120 for n in range(number)
    )


async def test_a_document_is_taken_in_changed_and_deleted(docs: Docs) -> None:
    first = await docs.put("rooms", sections(150, "cold"))
    assert (first["status"], first["last_error"]) == ("ready", None)
    assert await docs.in_step() == {"rooms"}
    assert (await docs.send("rooms", sections(150, "cold")))["changed"] is False
    changed = await docs.put("rooms", sections(149, "cold") + "\n\n## New\n\nThe zyxomma lives here.")
    assert changed["id"] == first["id"]
    assert (await docs.found("zyxomma"))[0] == "rooms"
    assert await docs.in_step() == {"rooms"}
    assert (await docs.client.delete(f"{DOCUMENTS}/{first['id']}")).status_code == 204
    assert await docs.found("zyxomma") == []
    assert await docs.in_step() == set() == set(await docs.service.rows("chunks"))


async def test_a_file_that_cannot_be_read_fails_alone_and_may_be_tried_again(docs: Docs) -> None:
    answers = [
        await docs.client.post(DOCUMENTS, files={"file": (f"{name}.pdf", content)})
        for name, content in (("broken", b"%PDF-1.7\n1 0 obj <<"), ("also", b"%PDF-1.4\nnothing"))
    ]
    good = await docs.put("good", "The good room is warm.")
    assert good["status"] == "ready"
    for answer in answers:
        failed = await docs.settled(answer.json()["document_id"])
        assert failed["status"] == "failed"
        assert failed["last_error"]
        again = await docs.client.post(f"{DOCUMENTS}/{failed['id']}/retry")
        assert again.status_code == 202, again.text
        assert (await docs.settled(failed["id"]))["last_error"] == failed["last_error"]
    assert (await docs.client.post(f"{DOCUMENTS}/{good['id']}/retry")).status_code == 409


async def test_one_slug_put_in_by_many_at_once_is_one_document(docs: Docs) -> None:
    answers = await asyncio.gather(
        *(
            docs.client.post(DOCUMENTS, json={"slug": "note", "title": "Note", "text": f"The room {n} is cold."})
            for n in range(8)
        )
    )
    assert {answer.status_code for answer in answers} <= {202, 409}
    for answer in answers:
        if answer.status_code == 409:
            assert "another request" in answer.json()["detail"]
    [row] = await docs.service.rows("documents")
    assert (await docs.settled(row["id"]))["status"] == "ready"
    async with asyncio.timeout(WAIT_S):
        while await docs.in_flight():
            await asyncio.sleep(0.05)
    assert await docs.in_step() == {"note"}


async def test_documents_put_and_deleted_at_once_leave_rows_and_vectors_in_step(docs: Docs) -> None:
    ingestor = docs.service.container.kit.ingestor
    for turn in range(4):
        sent = [await docs.send(f"note-{n}", f"In turn {turn} the room {n} is cold.") for n in range(6)]
        doomed = [one["document_id"] for one in sent[::2]]
        await asyncio.gather(*(docs.client.delete(f"{DOCUMENTS}/{one}") for one in doomed))
        for one in sent[1::2]:
            assert (await docs.settled(one["document_id"]))["status"] == "ready"
    await asyncio.gather(*(ingestor.put(TENANT, BOT, f"more-{n}", "More", f"More of room {n}.") for n in range(6)))
    assert await docs.in_step() == {"note-1", "note-3", "note-5"} | {f"more-{n}" for n in range(6)}


async def test_an_index_is_built_beside_switched_to_and_gone_back_from(docs: Docs) -> None:
    for number in range(25):
        await docs.service.container.kit.ingestor.put(
            TENANT, BOT, f"page-{number}", f"Page {number}", f"Lamp {number}."
        )
    asked = {"questions": [{"question": "Which lamp is 7?", "slugs": ["page-7"]}]}
    assert (await docs.client.put(f"{INDEX}/questions", json=asked)).status_code == 200
    new = await docs.built(embedder="wordllama-64")
    assert len(await docs.in_step(new)) == 25
    switched = await docs.post("/switch", generation=new, force=True)
    assert switched.json()["active"] == new, switched.text
    await docs.put("page-7", "Lamp 7 is a zyxomma.")
    assert (await docs.found("zyxomma"))[0] == "page-7"
    back = await docs.post("/rollback")
    assert (back.json()["active"], back.json()["previous"]) == ("first", new)
    assert (await docs.found("zyxomma"))[0] == "page-7"
    assert await docs.in_step() == await docs.in_step(new)
    assert (await docs.client.delete(f"{INDEX}/generations/{new}")).status_code == 202


async def test_two_who_switch_at_once_end_in_one_of_the_two_states(docs: Docs) -> None:
    await docs.put("note", "The room is cold.")
    new = await docs.built(embedder="wordllama-64")
    answers = await asyncio.gather(*(docs.post("/switch", generation=new, force=True) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert (await docs.client.get(INDEX)).json()["active"] == new


async def test_a_document_is_ready_while_the_candidates_embedder_is_down(
    tmp_path: Path, backends: Backends, far: tuple[EmbeddingServer, str]
) -> None:
    server, url = far
    overrides: dict[str, Any] = {"embedding_url": url, "embedding_name": "far", "embedding_dimension": DIMENSION}
    async with running(tmp_path, knowledge=False, **backends, **overrides) as service:
        docs = Docs(service)
        await docs.put("old", "The old room is cold.")
        near = await docs.built(embedder="wordllama-64")
        assert (await docs.post("/switch", generation=near, force=True)).status_code == 200
        assert (await docs.client.delete(f"{INDEX}/generations/first")).status_code == 202
        candidate = await docs.built(embedder=REMOTE)
        server.broken = True
        document = await docs.put("new", "The zyxomma room is warm.")
        assert (document["status"], document["last_error"]) == ("ready", None)
        assert (await docs.found("zyxomma"))[0] == "new"
        refused = await docs.post("/switch", generation=candidate, force=True)
        assert refused.status_code == 409
        assert "does not hold every document" in refused.json()["detail"]
        server.broken = False
        assert (await docs.post(f"/generations/{candidate}/retry")).status_code == 202
        await docs.generation(candidate, "ready")
        assert (await docs.post("/switch", generation=candidate, force=True)).json()["active"] == candidate
        assert (await docs.found("zyxomma"))[0] == "new"
        assert await docs.in_step(candidate) == {"old", "new"}


async def test_a_worker_repairs_what_a_server_lost_and_another_put_is_not_disturbed(docs: Docs) -> None:
    container = docs.service.container
    for number in range(5):
        await docs.put(f"note-{number}", f"The room {number} is cold.")
    store = container.kit.ingestor._store
    await store.drop(Namespace(TENANT, BOT))
    repairs = container.documents._repairs
    writing = [container.kit.ingestor.put(TENANT, BOT, f"note-{n}", "Note", f"The room {n} is warm.") for n in (1, 2)]
    await asyncio.gather(repairs.reconcile(), *writing)
    await repairs.reconcile(suspected=True)
    assert await docs.in_step() == {f"note-{number}" for number in range(5)}
    assert {row["status"] for row in await docs.service.rows("documents")} == {"ready"}
    assert await repairs.reconcile(suspected=True) == 0


async def test_a_document_of_another_tenant_is_not_there(docs: Docs) -> None:
    document = await docs.put("note", "The room is cold.")
    rival = {"Authorization": f"Bearer {await docs.service.other_tenant()}"}
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/retry")):
        answer = await docs.client.request(method, f"{DOCUMENTS}/{document['id']}{path}", headers=rival)
        assert answer.status_code == 404


async def test_a_put_that_its_caller_takes_back_leaves_nothing(docs: Docs) -> None:
    container, principal = docs.service.container, Principal(TENANT, "key_1", Role.ADMIN)
    with pytest.raises(RuntimeError):
        async with container.db.operator_transaction() as session:
            await container.documents.submit(session, principal, BOT, Page("note", "Note", "The room is cold.", ()))
            raise RuntimeError("the caller changed its mind")
    assert await docs.service.rows("documents") == []
    assert not await docs.in_flight()
