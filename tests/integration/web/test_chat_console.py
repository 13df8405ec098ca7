"""The chat agent's pages over the whole service: the same services as the API, for a person."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from app.main import create_app
from app.packs.chat.models import AnswerFeedback
from app.principal import Role
from tests.support.console import Visitor, signed_in, visiting
from tests.support.service import TENANT, Service, running
from tests.support.sse import events_of

LEAVE = "How many days of paid leave does everybody have?"
PAGE = "Everybody has 28 days of paid leave a year."
MARKUP = "<script>alert('x')</script>"
ASK = "/console/chat/bots/docs/ask"
DOCUMENTS = "/console/chat/documents"
WAIT_S = 60


@pytest.fixture
async def service(tmp_path) -> AsyncIterator[Service]:
    async with running(tmp_path, knowledge=False) as found:
        await found.container.kit.ingestor.put(TENANT, "docs", "holidays", f"Holidays {MARKUP}", PAGE)
        yield found


async def settled(visitor: Visitor, bot: str) -> str:
    """The live part of the list once nothing in it is under way."""
    async with asyncio.timeout(WAIT_S):
        while "hx-trigger" in (part := (await visitor.get(f"{DOCUMENTS}/{bot}/live")).text):
            await asyncio.sleep(0.05)
    return part


async def send(visitor: Visitor, name: str, content: bytes, *, token: str | None = None):
    headers = {"x-form-token": visitor.token if token is None else token}
    return await visitor.client.post(f"{DOCUMENTS}/notes", files={"file": (name, content)}, headers=headers)


async def test_a_question_is_streamed_remembered_and_shown_again(service):
    async with signed_in(service, Role.VIEWER) as viewer:
        page = (await viewer.get("/console/chat")).text
        assert f'data-ask="{ASK}"' in page
        answer = await viewer.post(ASK, {"message": LEAVE})
        events = events_of(answer.content)
        assert events[-1].data["citations"][0]["slug"] == "holidays"
        again = await viewer.get(events[0].data["resume"], headers={"Last-Event-ID": events[-2].id})
        assert events_of(again.content) == events[-1:]
        assert "28 days" in (await viewer.get("/console/chat?bot=docs")).text
        assert (await viewer.post("/console/chat/bots/docs/forget")).status_code == 303
        assert "28 days" not in (await viewer.get("/console/chat?bot=docs")).text


async def test_a_question_needs_the_pages_token_and_a_session(service):
    async with signed_in(service, Role.VIEWER) as viewer:
        assert (await viewer.client.post(ASK, data={"message": LEAVE})).status_code == 403
        await viewer.get("/console/chat")
        assert (await viewer.post(ASK, {"message": " "})).status_code == 422
        assert (await viewer.post(ASK.replace("docs", "nobody"), {"message": LEAVE})).status_code == 404
    async with visiting(create_app(service.container)) as stranger:
        assert (await stranger.post(ASK, {"message": LEAVE})).headers["location"] == "/console/sign-in"
    assert await service.rows("decisions") == []


async def test_a_persons_judgement_of_an_answer_is_kept(service):
    async with signed_in(service, Role.VIEWER) as viewer:
        await viewer.get("/console/chat")
        decision = events_of((await viewer.post(ASK, {"message": LEAVE})).content)[-1].data["decision_id"]
        judged = await viewer.post(f"/console/chat/bots/docs/answers/{decision}/feedback", {"helpful": "false"})
        assert judged.status_code == 204
        why = (await viewer.get(f"/console/decisions/{decision}")).text
    assert [row["helpful"] for row in await service.rows(AnswerFeedback.__tablename__)] == [False]
    assert "The question to docs" in why
    assert PAGE in why


async def test_files_go_in_show_how_far_they_are_and_fail_with_their_reason(service):
    async with signed_in(service, Role.AGENT) as agent:
        await agent.get(f"{DOCUMENTS}?bot=notes")
        assert (await send(agent, "keys.md", b"# Keys\n\nThe key hangs behind the door.")).status_code == 202
        assert (await send(agent, "broken.pdf", b"%PDF-1.4 broken")).status_code == 202
        refused = await send(agent, "virus.exe", b"MZ\x00\x01")
        assert refused.status_code == 415
        assert "not text" in re.search("<main.*?<p>(.*?)</p>", refused.text, re.DOTALL)[1]
        part = await settled(agent, "notes")
        assert "Keys" in part
        assert "cut off" in part
        failed = (await service.client.get("/v1/bots/notes/documents?status=failed")).json()["items"][0]["id"]
        assert (await agent.post(f"{DOCUMENTS}/notes/{failed}/retry")).headers["location"] == f"{DOCUMENTS}?bot=notes"
        assert "cut off" in await settled(agent, "notes")
        assert (await agent.post(f"{DOCUMENTS}/notes/{failed}/delete")).status_code == 303
        assert "cut off" not in await settled(agent, "notes")
    actions = [row["action"] for row in await service.rows("audit_entries") if row["action"].startswith("document.")]
    assert actions == ["document.submitted", "document.submitted", "document.retried", "document.deleted"]


async def test_a_document_is_shown_with_its_pieces_and_its_words_never_run(service):
    found = (await service.client.get("/v1/bots/docs/documents")).json()["items"][0]["id"]
    async with signed_in(service, Role.VIEWER) as viewer:
        pages = [(await viewer.get(path)).text for path in (f"{DOCUMENTS}?bot=docs", f"{DOCUMENTS}/docs/{found}")]
        assert (await viewer.get(f"{DOCUMENTS}/other/{found}")).status_code == 404
    assert PAGE in pages[1]
    assert not any(MARKUP in page for page in pages)
    assert all("&lt;script&gt;" in page for page in pages)


async def test_a_viewer_changes_no_document_and_no_file_goes_in_without_the_token(service):
    found = (await service.client.get("/v1/bots/docs/documents")).json()["items"][0]["id"]
    async with signed_in(service, Role.VIEWER) as viewer:
        page = (await viewer.get(f"{DOCUMENTS}?bot=docs")).text
        assert 'id="upload"' not in page
        assert (await send(viewer, "a.md", b"# A\n\nB.")).status_code == 403
        assert (await viewer.post(f"{DOCUMENTS}/docs/{found}/delete")).status_code == 403
    async with signed_in(service, Role.AGENT) as agent:
        await agent.get(f"{DOCUMENTS}?bot=notes")
        for token in ("", "forged"):
            assert (await send(agent, "a.md", b"# A\n\nB.", token=token)).status_code == 403
    assert len(await service.rows("documents")) == 1


async def test_a_bot_that_was_set_up_is_offered_before_one_that_only_holds_documents(service):
    settings = await service.client.put("/v1/bots/docs", json={"title": "House rules"})
    assert settings.status_code == 200
    await service.container.kit.ingestor.put(TENANT, "about", "page", "About", "Made by hand.")
    async with signed_in(service, Role.VIEWER) as viewer:
        assert f'data-ask="{ASK}"' in (await viewer.get("/console/chat")).text
        assert 'href="/console/chat?bot=docs"' in (await viewer.get(DOCUMENTS)).text


async def test_another_tenants_documents_and_conversations_are_on_no_page(service):
    found = (await service.client.get("/v1/bots/docs/documents")).json()["items"][0]["id"]
    async with visiting(create_app(service.container)) as stranger:
        await stranger.sign_in(await service.other_tenant())
        assert "There is no bot yet" in (await stranger.get("/console/chat")).text
        assert (await stranger.get("/console/chat?bot=docs")).status_code == 404
        assert "docs has no documents" in (await stranger.get(f"{DOCUMENTS}?bot=docs")).text
        assert (await stranger.get(f"{DOCUMENTS}/docs/{found}")).status_code == 404
        assert (await stranger.post(f"{DOCUMENTS}/docs/{found}/delete")).status_code == 404
    assert len(await service.rows("documents")) == 1
