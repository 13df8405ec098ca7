"""The service as it is watched: model endpoint, app, Prometheus with our rules at a faster pace, Alertmanager, a load.

`async with observed(folder) as house:` has them all running, `async with house.load():` asks for everything that the
service does, `async with house.fault(errors=0.5):` makes the model go wrong meanwhile. Every program is a real one,
on a free port of this machine, and is ended with its block.
"""

import asyncio
import itertools
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from alerts.model import Pace, Site
from infra.phases import PHASES, PhaseName
from loadtest.stub.answers import Message
from loadtest.stub.server import KEY, Fault, Latency, ModelStub, error, text
from tests.chaos.load import Client, Load, Try, session
from tests.support.monitoring import Webhook, listening, running_alertmanager, running_prometheus
from tests.support.processes import wait_until
from tests.support.server import ROOT, Server, free_port

PACE = 60.0
"""An hour of the rules is a minute here."""
WAIT_S = 60.0
FURNISH_S = 180.0
EVERY_S = 0.25
SCRAPED = ("trellis-api", "prometheus", "alertmanager")
BOT = "handbook"
FILLED = "notes"
"""The bot that documents are put into: a new document drops what was answered from the older ones."""
MEMBERS = tuple(f"m-{number}" for number in range(1001, 1008))
"""Whom the sample's claims are of."""
CHARACTERS = 4
"""Of a token."""
KNOWN = "How many days of paid leave does everybody have?"
PRICES = {"TRELLIS_MODEL_INPUT_USD_PER_MILLION": "2.5", "TRELLIS_MODEL_OUTPUT_USD_PER_MILLION": "10"}
SETTINGS = {
    "TRELLIS_MODEL_NAME": "stub",
    "TRELLIS_MODEL_KEY": KEY,
    "TRELLIS_MODEL_FALLBACK_NAME": "stub-2",
    "TRELLIS_MODEL_FALLBACK_KEY": KEY,
    "TRELLIS_LOG_LEVEL": "WARNING",
    "TRELLIS_TRACE_SAMPLE": "1",
    "TRELLIS_TENANT_DAILY_TOKENS": "1000000000",
    "TRELLIS_TENANT_DAILY_USD": "100000",
    **PRICES,
}
DECIDE = "You decide what happens next with one sales lead."


def answer(body: Mapping[str, Any]) -> Message:
    """What fits a prompt of ours: a decision where one is asked for, else a sentence with its passage."""
    if DECIDE in str(body["messages"][0].get("content")):
        decision = {"action": "nurture", "confidence": 0.8, "reason": "Interested, but not now.", "evidence": []}
        letter = {"subject": "Your question", "reply": "Thank you, we will write again.", "follow_up_days": 14}
        return text(orjson.dumps(decision | letter).decode())(body)
    return text("Everybody has what the page says, and may ask for it in writing at any time. [1]")(body)


@dataclass
class Model(ModelStub):
    """A model endpoint whose share of `errors` (0 to 1) ends with status 500, and whose answers wait `slow_s` more.

    `refusing`: what it says to a request by its body; None where it takes it. `counting`: it counts the tokens of what
    it is asked, roughly as real ones do, where it else says the same of each.
    """

    errors: float = 0.0
    slow_s: float = 0.0
    refusing: Callable[[Mapping[str, Any]], Fault | None] | None = None
    counting: bool = False
    chance: random.Random = field(default_factory=lambda: random.Random(7))

    def take(self, headers: Mapping[str, str], raw: bytes) -> tuple[dict[str, Any], Fault | None]:
        body, refused = super().take(headers, raw)
        if refused is None and self.refusing is not None:
            refused = self.refusing(body)
        return body, refused

    def said(self, body: Mapping[str, Any]) -> tuple[Message, Mapping[str, Any] | None]:
        message, usage = super().said(body)
        if not self.counting:
            return message, usage
        asked = sum(len(str(each.get("content"))) for each in body["messages"]) // CHARACTERS
        told = len(str(message.get("content"))) // CHARACTERS
        return message, {"prompt_tokens": asked, "completion_tokens": told, "total_tokens": asked + told}

    def trouble(self) -> Fault | None:
        if self.chance.random() < self.errors:
            return error(500, "The server had an error while processing your request.", code="server_error")
        return Fault(delay_s=self.slow_s) if self.slow_s else None


@dataclass(frozen=True)
class Rates:
    """Requests a second of each kind; `known` asks what has been answered before."""

    leads: float = 0.5
    whole: float = 1.0
    streamed: float = 1.0
    known: float = 1.0
    claims: float = 0.5
    documents: float = 0.1


@dataclass
class Observed:
    """What runs. `site` says what the rules were made for; addresses have no slash at the end."""

    folder: Path
    site: Site
    server: Server
    model: Model
    prometheus: str
    alertmanager: str
    webhook: Webhook
    client: Client
    members: Sequence[Client]
    web: aiohttp.ClientSession
    asked: Iterator[int] = field(default_factory=itertools.count)

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """The instant vector now: `metric` and `value` each. Raises AssertionError where it is refused."""
        found = await self._json(f"{self.prometheus}/api/v1/query", query=expr)
        assert found["status"] == "success", found
        result: list[dict[str, Any]] = found["data"]["result"]
        return result

    async def until_told(self, name: str, status: str, limit_s: float = WAIT_S) -> dict[str, Any]:
        """The alert as Alertmanager sent it, `firing` or `resolved`."""

        async def told() -> bool:
            return bool(self.webhook.told(name, status))

        await until(told, f"the webhook is told that {name} is {status}", limit_s)
        return self.webhook.told(name, status)[-1]

    @asynccontextmanager
    async def load(self, rates: Rates = Rates()) -> AsyncIterator[Mapping[str, Load]]:
        """Everything that the service does, until the block ends; what became of the requests, by kind."""
        senders = {
            "leads": (self.lead, rates.leads),
            "whole": (self.whole, rates.whole),
            "streamed": (self.streamed, rates.streamed),
            "known": (self.known, rates.known),
            "claims": (self.claim, rates.claims),
            "documents": (self.document, rates.documents),
        }
        async with AsyncExitStack() as stack:
            loads = {name: Load(send, rate) for name, (send, rate) in senders.items() if rate}
            for load in loads.values():
                await stack.enter_async_context(load)
            yield loads

    @contextmanager
    def fault(self, *, errors: float = 0.0, slow_s: float = 0.0) -> Iterator[None]:
        """The model goes wrong until the block ends."""
        self.model.errors, self.model.slow_s = errors, slow_s
        try:
            yield
        finally:
            self.model.errors, self.model.slow_s = 0.0, 0.0

    async def lead(self, _number: int = 0) -> Try:
        name = f"observed-{next(self.asked)}"
        body = {
            "external_id": name,
            "name": f"Person {name}",
            "email": f"{name}@example.org",
            "company": "Example Dairy",
            "language": "en",
            "message": "We may want sensors for our cold rooms next year. What do they cost?",
        }
        return await self.client.post("/v1/leads", body, Idempotency_Key=name)

    async def whole(self, _number: int = 0) -> Try:
        return await self._chat(f"{KNOWN} I have worked here for {next(self.asked)} days.")

    async def streamed(self, _number: int = 0) -> Try:
        return await self._chat(f"{KNOWN} My number is {next(self.asked)}.", stream=True)

    async def known(self, _number: int = 0) -> Try:
        return await self._chat(KNOWN)

    async def claim(self, number: int = 0) -> Try:
        member = self.members[number % len(self.members)]
        return await member.post("/v1/claims/chat", {"message": f"What is left of my limits after {number} visits?"})

    async def document(self, _number: int = 0) -> Try:
        number = next(self.asked)
        body = {"slug": f"note-{number}", "title": f"Note {number}", "text": f"Note {number} of the board. " * 40}
        return await self.client.post(f"/v1/bots/{FILLED}/documents", body, Idempotency_Key=f"document-{number}")

    async def draw(self, board: str, out: Path, *arguments: object) -> int:
        """`python -m dashboards.render` against this Prometheus; its exit code. What fails is on standard error."""
        command = ("-m", "dashboards.render", board, "--prometheus", self.prometheus, "--out", out, *arguments)
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(sys.executable, *map(str, command), cwd=ROOT, stdout=quiet)
        return await process.wait()

    async def _chat(self, message: str, **more: Any) -> Try:
        return await self.client.post(f"/v1/bots/{BOT}/chat", {"message": message, "history": [], **more})

    async def _json(self, url: str, **params: str) -> Any:
        async with self.web.get(url, params=params) as response:
            return await response.json()


async def until(holds: Callable[[], Any], what: str, limit_s: float = WAIT_S) -> float:
    """Seconds until `holds()` (awaited) is true. Raises AssertionError naming `what` where it is not in time."""
    began = time.monotonic()
    while not await holds():
        assert time.monotonic() - began < limit_s, f"not within {limit_s:g} s: {what}"
        await asyncio.sleep(EVERY_S)
    return time.monotonic() - began


@asynccontextmanager
async def observed(
    folder: Path,
    *,
    phase: PhaseName = PhaseName.POC,
    pace: float = PACE,
    scrape_s: float = 1.0,
    furnished: bool = True,
    **settings: str,
) -> AsyncIterator[Observed]:
    """All of it over an empty folder, with the sample's data, ready to be asked.

    Args:
        phase: whose rules are evaluated.
        pace: how many times faster than in production the rules' windows pass.
        furnished: the sample was taken in by a process before, so that its hurry is in no figure; else by this one.
        settings: of the app, as variables (`TRELLIS_...`).
    """
    site = Site(PHASES[phase], pace=Pace(pace))
    home = folder / "app"
    home.mkdir(parents=True)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        model = await enter(Model(answer=answer, keep=False, latency=Latency(0.15, 0.005, spread=0.3)))
        webhook = await enter(listening())
        # There is a model to fall back to, and the same fault takes it too.
        endpoints = {"TRELLIS_MODEL_URL": model.url, "TRELLIS_MODEL_FALLBACK_URL": model.url}
        chosen = SETTINGS | endpoints | settings
        if furnished:
            await asyncio.to_thread(furnish, home, chosen)
        server = stack.enter_context(Server(home, free_port(), "--sample", **chosen))
        await asyncio.to_thread(server.wait_ready)
        alertmanager = stack.enter_context(running_alertmanager(folder / "alertmanager", webhook.url))
        ports = dict(zip(SCRAPED, (server.port, free_port(), alertmanager), strict=True))
        prometheus = stack.enter_context(running_prometheus(folder / "prometheus", site, ports, scrape_s))
        http = await enter(session())
        client = Client(http, server.address, local_key(home))
        members = [await _signed_in(http, client, server, user) for user in MEMBERS]
        addresses = [f"http://127.0.0.1:{port}" for port in (prometheus, alertmanager)]
        yield Observed(folder, site, server, model, *addresses, webhook, client, members, http)


def furnish(home: Path, settings: Mapping[str, str]) -> None:
    """The sample, taken in and decided by a process before: its hurry is in no figure of the one that is watched."""
    with Server(home, free_port(), "--sample", **settings) as server:
        server.wait_ready()
        key = local_key(home)

        def decided() -> bool:
            counts = server.call("/v1/leads/counts", key)
            return bool(counts["total"]) and counts["by_status"]["new"] == 0

        wait_until(decided, "every sample lead is decided", FURNISH_S)
        server.terminate()


def local_key(home: Path) -> str:
    """The sample tenant's admin key."""
    return (home / "local.key").read_text().strip()


async def _signed_in(http: aiohttp.ClientSession, client: Client, server: Server, user: str) -> Client:
    found = await client.post(f"/v1/users/{user}/token", {})
    assert found.status == 201, found
    return Client(http, server.address, found.body["token"])
