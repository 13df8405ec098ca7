"""Makes the pictures of this folder again: `.venv/bin/python docs/pictures/make.py`; needs Chromium (`make deps`).

Starts a server on a free port over a data folder of its own, waits until the sample leads are decided, signs in by
a one-time link and takes the overview, the explanation of a decision, a talk with the handbook's bot, a run of
treatments over the sample's customers, and a question to the team for client health.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent.parent))

from tests.support.browser import Page, browse  # noqa: E402 - found by the line above
from tests.support.components import COMPONENTS  # noqa: E402
from tests.support.processes import wait_until  # noqa: E402
from tests.support.server import Server, free_port  # noqa: E402

WIDTH, SCALE = 1280, 1.5
OVERVIEW_HEIGHT = 1000
LANGUAGES = ("en", "de")
QUESTIONS = ("How many days of paid leave does everybody have?", "Which treaty ended the Thirty Years War?")
ASK = (
    "(said => {{ document.querySelector('#message').value = said;"
    " document.querySelector('#ask').requestSubmit() }})({})"
)
RUN_HEIGHT, TEAM_HEIGHT = 1130, 820
TEAM_QUESTION = "Which of our clients are at risk, and why?"
TEAM_ASK = (
    "(said => {{ document.querySelector('#question').value = said;"
    " document.querySelector('#ask').requestSubmit() }})({})"
)
WAIT_S = 180.0


def main() -> None:
    chromium = COMPONENTS["chromium"].find()
    if chromium is None:
        sys.exit("Chromium is not installed: `make deps` installs it where there is a package manager.")
    with tempfile.TemporaryDirectory() as home, Server(Path(home), free_port(), "--sample") as server:
        server.wait_ready()
        key = (server.home / "local.key").read_text().strip()
        wait_until(lambda: decided(server, key), "every sample lead is decided", WAIT_S)
        chosen = chosen_decision(server, key)
        asyncio.run(take(chromium, server, server.call("/v1/console/links", key, b"")["path"], chosen["id"]))
        server.terminate()


def decided(server: Server, key: str) -> bool:
    counts = server.call("/v1/leads/counts", key)
    return bool(counts["total"]) and counts["by_status"]["new"] == 0


def chosen_decision(server: Server, key: str) -> Mapping[str, Any]:
    """An answer in English or German that shows most of what an explanation can hold, on the least paper."""
    items = server.call("/v1/decisions?action=respond&limit=200", key)["items"]
    explained = [server.call(f"/v1/decisions/{item['id']}", key) for item in items]
    fitting = [one for one in explained if one["inputs"]["enrichment"]["language"][:2] in LANGUAGES and one["evidence"]]
    return max(fitting, key=worth)


def worth(decision: Mapping[str, Any]) -> tuple[int, int]:
    """How many of the things worth showing it has, then how little paper it takes."""
    inputs, cost = decision["inputs"], decision["cost"]
    features = (
        inputs["lead"]["company"] is not None,
        120 <= len(inputs["message"]) <= 450,
        decision["confidence"] >= 0.85,
        4 <= len(inputs["score"]["contributions"]) <= 8,
        cost["own_ms"] <= 100,
    )
    return sum(features), -len(inputs["message"]) - len(decision["answer"]["reply"])


async def take(chromium: Path, server: Server, link: str, decision_id: str) -> None:
    async with browse(chromium) as page:
        await page.size(WIDTH, scale=SCALE)
        await page.goto(server.address + link)
        await page.wait_for("location.pathname.endsWith('/overview') && document.readyState === 'complete'")
        await page.picture(FOLDER / "overview.png", height=OVERVIEW_HEIGHT)
        await page.goto(f"{server.address}/console/decisions/{decision_id}")
        await page.picture(FOLDER / "decision.png")
        await page.goto(f"{server.address}/console/chat?bot=handbook")
        for number, question in enumerate(QUESTIONS):
            await page.run(ASK.format(json.dumps(question)))
            await page.wait_for(f"document.querySelectorAll('.turn.assistant .meta a').length > {number}")
        await page.run("document.querySelector('.cited').click()")
        await page.picture(FOLDER / "chat.png")
        await take_run(page, server)
        await take_team(page, server)


async def take_run(page: Page, server: Server) -> None:
    """A run over all customers, started as a person does it, once it is done."""
    await page.size(WIDTH)
    await page.goto(f"{server.address}/console/treatments/runs/new")
    async with page.loading():
        await page.run("document.querySelector('main form button').click()")
    await page.wait_for("document.querySelector('#queue') !== null && !document.querySelector('[hx-trigger]')")
    await page.picture(FOLDER / "treatments.png", height=RUN_HEIGHT)


async def take_team(page: Page, server: Server) -> None:
    await page.goto(f"{server.address}/console/teams?team=client_health")
    async with page.loading():
        await page.run(TEAM_ASK.format(json.dumps(TEAM_QUESTION)))
    await page.wait_for("document.querySelector('#task-4') !== null")
    await page.picture(FOLDER / "teams.png", height=TEAM_HEIGHT)


if __name__ == "__main__":
    main()
