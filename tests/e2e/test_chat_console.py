"""Asking and uploading as a person does it: a real server, a real browser."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.browser import Page, browse
from tests.support.components import require
from tests.support.server import Server, free_port

PAYLOAD = """<img src=x onerror="document.title='owned'">"""
LEAVE = "How many days of paid leave does everybody have?"
ASK = (
    "(said => { document.querySelector('#message').value = said; document.querySelector('#ask').requestSubmit() })({})"
)
UPLOAD = """((name, text) => {
  const files = new DataTransfer();
  files.items.add(new File([text], name));
  document.querySelector('#files').files = files.files;
  document.querySelector('#upload').requestSubmit();
})"""


@pytest.fixture(scope="module")
def chromium() -> Path:
    return require("chromium")


@pytest.fixture(scope="module")
def server(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("chat")
    with Server(home, free_port(), "--sample") as running:
        running.wait_ready()
        yield running
        running.terminate()


@asynccontextmanager
async def signed_in(server: Server, chromium: Path, place: str) -> AsyncIterator[Page]:
    key = (server.home / "local.key").read_text().strip()
    link = server.call("/v1/console/links", key, b"")["path"]
    async with browse(chromium) as page:
        await page.size(1280)
        await page.goto(server.address + link)
        await page.wait_for("location.pathname === '/console/leads/overview' && document.readyState === 'complete'")
        await page.goto(f"{server.address}/console/{place}")
        yield page
        assert page.complaints == []


def said(script: str, *values: Any) -> str:
    return f"{script}({', '.join(orjson.dumps(value).decode() for value in values)})"


async def ask(page: Page, question: str) -> str:
    """The text of the finished answer."""
    before = await page.run("document.querySelectorAll('.turn.assistant .meta a').length")
    await page.run(ASK.replace("({})", f"({orjson.dumps(question).decode()})"))
    await page.wait_for(f"document.querySelectorAll('.turn.assistant .meta a').length > {before}")
    return str(await page.run("[...document.querySelectorAll('.turn.assistant')].at(-1).innerText"))


async def test_a_person_asks_opens_the_passage_and_says_that_it_helped(server, chromium):
    async with signed_in(server, chromium, "chat?bot=handbook") as page:
        answer = await ask(page, LEAVE)
        assert "28 days of paid leave" in answer
        assert "by offline" in answer
        assert "$0.00" in answer
        await page.run("document.querySelector('.cited').click()")
        assert await page.run("document.querySelector('.sources details').open")
        assert "28 days" in await page.run("document.querySelector('.sources .quote').innerText")
        await page.run("[...document.querySelectorAll('.turn button')].find(b => b.innerText === 'Helpful').click()")
        await page.wait_for("document.body.innerText.includes('Thank you')")
        async with page.loading():
            await page.run("document.querySelector('.sources details a').click()")
        assert "28 days of paid leave" in await page.text()


async def test_what_a_person_asks_never_runs_and_a_refusal_says_so(server, chromium):
    async with signed_in(server, chromium, "chat?bot=handbook") as page:
        answer = await ask(page, f"Which treaty ended the Thirty Years War? {PAYLOAD}")
        assert "the documents do not say it" in answer
        await page.goto(f"{server.address}/console/chat?bot=handbook")
        await asyncio.sleep(0.1)
        assert PAYLOAD in await page.text()
        assert await page.run("document.title") != "owned"


async def test_an_answer_from_the_cache_says_which_one(server, chromium):
    async with signed_in(server, chromium, "chat?bot=handbook") as page:
        for cache in ("by offline", "from the cache"):
            async with page.loading():
                await page.run("document.querySelector('main form[action$=forget] button').click()")
            await page.wait_for("document.readyState === 'complete'")
            assert cache in await ask(page, "What is the company's bonus?")


async def test_an_uploaded_file_is_indexed_before_ones_eyes_and_answers(server, chromium):
    async with signed_in(server, chromium, "chat/documents?bot=notes") as page:
        await page.run("window.same = true")
        await page.run(
            said(UPLOAD, "keys.md", f"# Keys {PAYLOAD}\n\nThe key to the cellar hangs behind the green door.")
        )
        await page.wait_for("document.querySelector('#documents .badge.done') !== null")
        assert "1 of 1 taken." in await page.text()
        assert await page.run("window.same"), "nothing reloads the page"
        assert await page.run("document.querySelectorAll('main img').length") == 0
        await page.goto(f"{server.address}/console/chat?bot=notes")
        assert "behind the green door" in await ask(page, "Where does the key to the cellar hang?")
        assert await page.run("document.title") != "owned"


async def test_a_file_that_cannot_be_read_says_why_and_may_be_tried_again(server, chromium):
    async with signed_in(server, chromium, "chat/documents?bot=scans") as page:
        await page.run(said(UPLOAD, "broken.pdf", "%PDF-1.4 broken"))
        await page.wait_for("document.querySelector('#documents .badge.failed') !== null")
        assert "cut off" in await page.text()
        async with page.loading():
            await page.run("document.querySelector('#documents form button').click()")
        await page.wait_for("document.querySelector('#documents .badge.failed') !== null")


async def test_a_question_that_is_stopped_says_so(server, chromium):
    async with signed_in(server, chromium, "chat?bot=handbook") as page:
        # The click comes before the server can have answered.
        await page.run(
            f"{ASK.replace('({})', '(' + orjson.dumps(LEAVE).decode() + ')')}; document.querySelector('#stop').click()"
        )
        await page.wait_for("document.body.innerText.includes('You stopped it')")
        assert await page.run("getComputedStyle(document.querySelector('#stop')).display") == "none"
