"""An index is built anew, switched to and gone back from, while questions and documents keep coming."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.knowledge.base import Namespace, Passage
from app.knowledge.models import GenerationRow
from app.principal import Role
from tests.support.service import TENANT, Service, running

BOT = "docs"
INDEX = f"/v1/bots/{BOT}/index"
TOPICS = ("fridge", "invoice", "delivery", "warranty", "password", "holiday", "printer", "coffee")
WAIT_S = 60.0


def text(number: int, note: str = "") -> str:
    topic = TOPICS[number % len(TOPICS)]
    return (
        f"# About {topic} {number}\n\nThe {topic} desk number {number} answers within {number + 1} hours. {note}\n\n"
        f"## Costs\n\nThe {topic} service number {number} costs {number} euro a year, paid in advance by card.\n"
    )


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path, knowledge=False) as service:
        for number in range(40):
            await put(service, number)
        yield service


async def put(service: Service, number: int, note: str = "", bot: str = BOT) -> None:
    await service.container.kit.ingestor.put(TENANT, bot, f"page-{number}", f"Page {number}", text(number, note))


async def search(service: Service, query: str, limit: int = 5) -> list[Passage]:
    return await service.container.kit.ports.retriever.search(TENANT, BOT, query, limit)


async def index(service: Service) -> dict[str, Any]:
    answer = await service.client.get(INDEX)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def generation(service: Service, name: str) -> dict[str, Any]:
    return next(one for one in (await index(service))["generations"] if one["id"] == name)


async def built(service: Service, **asked: Any) -> str:
    """Starts a build and waits until it is through; the generation's id."""
    answer = await service.client.post(f"{INDEX}/generations", json=asked)
    assert answer.status_code == 202, answer.text
    name: str = answer.json()["generation"]
    await ends(service, name, "ready")
    return name


async def ends(service: Service, name: str, state: str) -> dict[str, Any]:
    async with asyncio.timeout(WAIT_S):
        while True:
            found = await generation(service, name)
            if found["state"] == state and (
                state != "ready" or found["report"] or not (await index(service))["questions"]
            ):
                return found
            assert found["state"] in ("building", state), found
            await asyncio.sleep(0.02)


async def ask_about(service: Service, *numbers: int) -> None:
    questions = [
        {"question": f"What does the {TOPICS[n % len(TOPICS)]} service number {n} cost?", "slugs": [f"page-{n}"]}
        for n in numbers
    ]
    answer = await service.client.put(f"{INDEX}/questions", json={"questions": questions})
    assert answer.status_code == 200, answer.text


async def stored(service: Service, generation: str) -> set[str]:
    """Slugs with vectors in a generation, which are those with rows, chunk by chunk."""
    kit = service.container.kit
    vectors = await kit.ingestor._store.chunk_ids(Namespace(TENANT, BOT, generation))
    documents = {row["id"]: row["slug"] for row in await service.rows("documents") if row["bot"] == BOT}
    rows: dict[str, set[str]] = {}
    for row in await service.rows("chunks"):
        if row["generation"] == generation and row["document_id"] in documents and not row["findings"]:
            assert (row["status"], row["superseded"]) == ("ready", False), row
            rows.setdefault(row["document_id"], set()).add(row["id"])
    assert rows == {document: set(ids) for document, ids in vectors.items()}
    return {documents[document] for document in rows}


async def test_questions_never_fail_nor_mix_while_an_index_is_built_switched_and_gone_back_from(
    service: Service,
) -> None:
    await put(service, 3, bot="other")
    await ask_about(service, 1, 5, 9, 30)
    seen: list[tuple[str, frozenset[str]]] = []
    done = asyncio.Event()

    async def asking(worker: int) -> None:
        number = worker
        while not done.is_set():
            number = (number + 7) % 40
            found = await search(service, f"{TOPICS[number % len(TOPICS)]} desk number {number} take {len(seen)}")
            assert found
            seen.append((str(number), frozenset(passage.chunk_id for passage in found)))
            await asyncio.sleep(0.002)

    asking_all = [asyncio.create_task(asking(worker)) for worker in range(3)]
    answer = await service.client.post(
        f"{INDEX}/generations",
        json={"embedder": "wordllama-64", "bounds": {"largest": 300, "smallest": 20, "overlap": 0}},
    )
    new = answer.json()["generation"]
    await put(service, 40)
    await put(service, 2, "It moved to the second floor.")
    await service.container.kit.ingestor.delete(TENANT, BOT, "page-6")
    found = await ends(service, new, "ready")
    assert found["documents_done"] >= 39
    assert found["report"]["questions"] == 4
    everything = {f"page-{number}" for number in range(41)} - {"page-6"}
    assert await stored(service, new) == await stored(service, "") == everything

    switched = await service.client.post(f"{INDEX}/switch", json={"generation": new, "force": True})
    assert switched.json()["active"] == new, switched.text
    await asyncio.sleep(0.2)
    await put(service, 41, "Written after the switch.")
    await service.container.kit.ingestor.delete(TENANT, BOT, "page-7")
    back = await service.client.post(f"{INDEX}/rollback")
    assert (back.json()["active"], back.json()["previous"]) == ("first", new)
    assert "page-41" in {passage.slug for passage in await search(service, "fridge desk number 41", 10)}
    await asyncio.sleep(0.2)
    done.set()
    await asyncio.gather(*asking_all)

    everything = everything - {"page-7"} | {"page-41"}
    assert await stored(service, new) == await stored(service, "") == everything
    homes = {row["id"]: row["generation"] for row in await service.rows("chunks")}
    documents = {row["id"]: row["bot"] for row in await service.rows("documents")}
    bots = {row["id"]: documents[row["document_id"]] for row in await service.rows("chunks")}
    used = set()
    for question, ids in seen:
        known = ids & homes.keys()
        assert len({homes[one] for one in known}) <= 1, f"question {question} saw two generations"
        assert {bots[one] for one in known} <= {BOT}
        used |= {homes[one] for one in known}
    assert used == {"", new}


async def test_a_document_put_and_one_deleted_after_a_switch_are_right_after_a_rollback(service: Service) -> None:
    new = await built(service, embedder="wordllama-128")
    await service.client.post(f"{INDEX}/switch", json={"generation": new, "force": True})
    await put(service, 1, "Ask for Zyxomma.")
    await service.container.kit.ingestor.delete(TENANT, BOT, "page-9")
    for _ in range(2):
        found = await search(service, "invoice desk number 1 Zyxomma", 3)
        assert "Zyxomma" in found[0].text
        assert "page-9" not in {passage.slug for passage in await search(service, "invoice desk number 9", 10)}
        assert (await service.client.post(f"{INDEX}/rollback")).status_code == 200


async def test_a_worse_candidate_or_one_that_was_not_compared_needs_force(service: Service) -> None:
    new = await built(service, embedder="wordllama-64")
    refused = await service.client.post(f"{INDEX}/switch", json={"generation": new})
    assert refused.status_code == 409
    assert "has no evaluation set" in refused.json()["detail"]
    await ask_about(service, *range(12))
    refused = await service.client.post(f"{INDEX}/switch", json={"generation": new})
    assert "was not compared with what answers now" in refused.json()["detail"]
    await service.client.post(f"{INDEX}/generations/{new}/compare")
    report = (await ends(service, new, "ready"))["report"]
    assert 0 < report["active"]["ndcg_at_10"] <= 1
    # The figures of a candidate that lost the documents that answer.
    async with service.container.db.operator_transaction() as session:
        worse = report | {"candidate": {"ndcg_at_10": 0.1, "recall_at_5": report["active"]["recall_at_5"]}}
        await session.execute(update(GenerationRow).where(GenerationRow.id == new).values(report=worse))
    refused = await service.client.post(f"{INDEX}/switch", json={"generation": new})
    assert refused.status_code == 409
    assert f"nDCG@10 0.100 against {report['active']['ndcg_at_10']:.3f}" in refused.json()["detail"]
    assert (await index(service))["active"] == "first"
    forced = await service.client.post(f"{INDEX}/switch", json={"generation": new, "force": True})
    assert forced.json()["active"] == new
    actions = [row["action"] for row in await service.rows("audit_entries")]
    assert [one for one in actions if one.startswith("index.")] == ["index.build", "index.questions", "index.switched"]


async def test_a_better_candidate_is_switched_to_without_force_and_the_oldest_goes(service: Service) -> None:
    await ask_about(service, 1, 2, 3)
    first = await built(service, bounds={"largest": 2000})
    assert (await service.client.post(f"{INDEX}/switch", json={"generation": first})).status_code == 200
    second = await built(service, bounds={"largest": 800})
    assert (await service.client.post(f"{INDEX}/switch", json={"generation": second})).status_code == 200
    assert [one["id"] for one in (await index(service))["generations"]] == [first, second]
    async with asyncio.timeout(WAIT_S):
        while any(row["generation"] == "" for row in await service.rows("chunks")):
            await asyncio.sleep(0.1)
    assert await stored(service, "") == set()
    assert await stored(service, first) == await stored(service, second)
    assert (await service.client.post(f"{INDEX}/rollback")).json()["active"] == first
    assert await search(service, "coffee desk number 7")


async def test_what_cannot_be_is_refused_in_one_sentence(service: Service) -> None:
    async def said(method: str, path: str, **body: Any) -> tuple[int, str]:
        answer = await service.client.request(method, f"{INDEX}{path}", json=body or None)
        return answer.status_code, answer.json()["detail"]

    assert (await said("POST", "/rollback"))[0] == 409
    status, detail = await said("POST", "/generations", embedder="ada-9")
    assert status == 422
    assert "'ada-9' is none of this installation's (wordllama-l2-supercat-256" in detail
    status, detail = await said("POST", "/generations", bounds={"largest": 1200})
    assert status == 409
    assert "made this way already" in detail
    assert (await said("POST", "/generations", bounds={"largest": 300, "overlap": 200}))[0] == 422
    assert (await said("POST", "/switch", generation="gen_none"))[0] == 404
    status, detail = await said("PUT", "/questions", questions=[{"question": "Who?", "slugs": ["nowhere"]}])
    assert status == 422
    assert "no document 'nowhere'" in detail
    new = await built(service, embedder="wordllama-128")
    status, detail = await said("POST", "/generations", embedder="wordllama-64")
    assert status == 409
    assert new in detail
    await service.client.post(f"{INDEX}/switch", json={"generation": new, "force": True})
    assert (await said("DELETE", f"/generations/{new}"))[0] == 409
    status, detail = await said("POST", "/switch", generation="first", force=True)
    assert status == 409
    assert "roll back" in detail
    assert (await service.client.delete(f"{INDEX}/generations/first")).status_code == 202
    assert (await said("POST", "/rollback"))[0] == 409
    viewer = {"Authorization": f"Bearer {await service.key_with(Role.AGENT)}"}
    assert (await service.client.post(f"{INDEX}/rollback", headers=viewer)).status_code == 403
    rival = {"Authorization": f"Bearer {await service.other_tenant()}"}
    assert (await service.client.get(INDEX, headers=rival)).json()["version"] == 0
    answer = await service.client.post(f"{INDEX}/switch", json={"generation": new, "force": True}, headers=rival)
    assert answer.status_code == 404
