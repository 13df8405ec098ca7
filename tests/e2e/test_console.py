"""The console as a person meets it: a real server, a real browser."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import orjson
import pytest

from tests.support.browser import Page, browse
from tests.support.components import require
from tests.support.processes import wait_until
from tests.support.server import Server, free_port

PLACES = (
    *("leads/overview", "leads", "leads/new", "chat?bot=handbook", "chat/documents?bot=handbook"),
    *("decisions", "approvals", "audit", "flags", "flags/kill.leads"),
    *("treatments", "treatments/runs/new", "treatments/customers", "teams", "teams/clients"),
    *("treatments/customers/sample-001", "teams/clients/borealis-foods"),
)
LOCAL_PLACES = ("outbox", "calendar", "contacts")
PAYLOAD = """<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>"""
UNLABELLED = """[...document.querySelectorAll('input:not([type=hidden]), select, textarea')]
  .filter(field => !field.labels.length).map(field => field.outerHTML)"""
# WCAG 2.2, 1.4.3: the contrast of each text with the nearest background behind it, where it is below 4.5.
FAINT = """(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = colour => colour.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const has = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    const box = element.getBoundingClientRect();
    if (!has || !box.width || box.right < 0) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.push(element.outerHTML.slice(0, 120));
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def chromium() -> Path:
    return require("chromium")


@pytest.fixture(scope="module")
def server(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The sample, decided, and one lead with markup in everything it says."""
    home = tmp_path_factory.mktemp("console")
    with Server(home, free_port(), "--sample") as running:
        running.wait_ready()
        said = f"{PAYLOAD} What is the price?"
        call(running, "/v1/leads", {"name": PAYLOAD, "email": "x@example.org", "company": PAYLOAD, "message": said})
        wait_until(lambda: call(running, "/v1/leads/counts")["by_status"]["new"] == 0, "every lead is decided", 120)
        yield running
        running.terminate()


def call(server: Server, path: str, body: dict[str, Any] | None = None) -> Any:
    content = None if body is None else orjson.dumps(body)
    return server.call(path, key(server), content, Content_Type="application/json")


def key(server: Server) -> str:
    return (server.home / "local.key").read_text().strip()


@asynccontextmanager
async def signed_in(server: Server, chromium: Path) -> AsyncIterator[Page]:
    """A browser that came in by a one-time link, and complained of nothing."""
    link = server.call("/v1/console/links", key(server), b"")["path"]
    async with browse(chromium) as page:
        await page.size(1280)
        await page.goto(server.address + link)
        await page.wait_for("location.pathname === '/console/leads/overview' && document.readyState === 'complete'")
        yield page
        assert page.complaints == []


def everywhere(server: Server) -> list[str]:
    decisions = call(server, "/v1/decisions?limit=200")["items"]
    one_of_each = {item["action"]: item for item in decisions}.values()
    contact = call(server, "/v1/leads?limit=1")["items"][0]["id"]
    return [*PLACES, *LOCAL_PLACES, f"leads/{contact}", *(f"decisions/{item['id']}" for item in one_of_each)]


async def test_every_page_fits_is_labelled_and_legible_in_light_and_dark(server, chromium):
    faults = []
    async with signed_in(server, chromium) as page:
        for place in everywhere(server):
            for width, dark in ((1280, False), (400, True)):
                await page.size(width, dark=dark)
                await page.goto(f"{server.address}/console/{place}")
                if await page.run("document.documentElement.scrollWidth") > width:
                    faults.append(f"{place} is wider than {width}")
                faults += [f"{place} has no label for {field}" for field in await page.run(UNLABELLED)]
                faults += [
                    f"{place} {'dark' if dark else 'light'} is faint in {text}" for text in await page.run(FAINT)
                ]
    assert faults == []


async def test_a_person_enters_a_lead_and_watches_it_being_decided_and_judges_it(server, chromium):
    async with signed_in(server, chromium) as page:
        await page.goto(f"{server.address}/console/leads/new")
        await page.run(
            "Object.entries({name: 'Grace Visitor', email: 'grace@example.org', message: 'Do you ship to Norway?'})"
            ".forEach(([name, value]) => { document.querySelector(`[name=${name}]`).value = value })"
        )
        async with page.loading():
            await page.run("document.querySelector('main button').click()")
        # Nothing reloads the page: the part that waits asks for itself.
        await page.run("window.same = true")
        await page.wait_for("document.body.innerText.includes('Why it decided so')")
        await page.wait_for("!document.querySelector('[hx-trigger]')")
        assert await page.run("window.same")
        async with page.loading():
            await page.run("[...document.querySelectorAll('a')].find(a => a.innerText === 'Why it decided so').click()")
        assert "Grace Visitor" in await page.text()
        async with page.loading():
            await page.run("document.querySelector('[name=thumb][value=up]').checked = true")
            await page.run("document.querySelector('aside form button').click()")
        assert "Your judgement is recorded" in await page.text()


async def test_a_person_starts_a_run_and_watches_it_and_asks_a_team(server, chromium):
    async with signed_in(server, chromium) as page:
        await page.goto(f"{server.address}/console/treatments/runs/new")
        async with page.loading():
            await page.run("document.querySelector('main form button').click()")
        await page.run("window.same = true")
        await page.wait_for("document.querySelector('#queue') !== null && !document.querySelector('[hx-trigger]')")
        assert await page.run("window.same"), "nothing reloads the page"
        assert "60 of 60" in await page.text()
        await page.goto(f"{server.address}/console/teams?team=client_health")
        await page.run("document.querySelector('#question').value = 'Which clients are at risk, and why?'")
        async with page.loading():
            await page.run("document.querySelector('#ask button').click()")
        assert "3 open tickets" in await page.run("document.querySelector('.answer').innerText")
        await page.run("document.querySelector('.answer .cited').click()")
        assert await page.run("location.hash") == "#task-1"


async def test_what_a_lead_writes_never_runs(server, chromium):
    async with signed_in(server, chromium) as page:
        lead = call(server, "/v1/leads?email=x@example.org")["items"][0]
        decision = call(server, f"/v1/leads/{lead['id']}")["decisions"][0]
        for place in ("leads", f"leads/{lead['id']}", f"decisions/{decision}", "decisions", "outbox", "contacts"):
            await page.goto(f"{server.address}/console/{place}")
            await asyncio.sleep(0.1)
            assert await page.run("document.title") != "owned"
            assert await page.run("document.querySelectorAll('main img, main script').length") == 0
        await page.goto(f"{server.address}/console/leads/{lead['id']}")
        assert PAYLOAD in await page.text()


async def test_the_policy_of_the_page_stops_a_script_that_got_in_all_the_same(server, chromium):
    async with browse(chromium) as page:
        await page.goto(f"{server.address}/console/sign-in")
        await page.run(
            "document.body.insertAdjacentElement('beforeend', Object.assign(document.createElement('script'),"
            " {textContent: 'window.owned = true'}))"
        )
        assert await page.run("window.owned") is None
        assert any("Content Security Policy" in complaint for complaint in page.complaints)


async def test_a_person_signs_in_with_a_key_and_out_again(server, chromium):
    async with browse(chromium) as page:
        await page.goto(f"{server.address}/console/audit")
        assert await page.run("location.pathname") == "/console/sign-in"
        await page.run(f"document.querySelector('#key').value = {key(server)!r}")
        async with page.loading():
            await page.run("document.querySelector('main button').click()")
        assert await page.run("location.pathname") == "/console/audit"
        assert await page.run("document.cookie") == ""
        async with page.loading():
            await page.run("document.querySelector('main form button').click()")
        assert "the chain holds" in await page.text()
        async with page.loading():
            await page.run("document.querySelector('.who button').click()")
        await page.goto(f"{server.address}/console/audit")
        assert await page.run("location.pathname") == "/console/sign-in"


def test_the_link_is_for_who_has_the_key(server):
    with pytest.raises(HTTPError) as refused:
        server.call("/v1/console/links", "trl_" + "a" * 40, b"")
    assert refused.value.code == 401
    assert os.stat(server.home / "console.secret").st_mode & 0o077 == 0
