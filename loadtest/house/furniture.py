"""What a house is furnished with by the app's own interface: bots with documents, and questions answered beforehand."""

import asyncio
import random
import time
from collections.abc import Awaitable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.knowledge.models import DocumentStatus
from app.packs.chat.sample_data import SAMPLE as HANDBOOK
from app.packs.leads.sample_data import SAMPLE as PRICE_LISTS
from app.packs.leads.tools import BOT as LEADS
from tests.chaos.load import Client, Try

BOT: Final = "handbook"
"""The bot that is asked."""
FILLED: Final = "notes"
"""The bot that documents are put into: a new document drops what was answered from the older ones."""
QUESTIONS: Final = (
    "How many days of paid leave does everybody have?",
    "How long before a holiday do I have to book it?",
    "Until when may I hand in my expenses?",
    "What may a hotel in Europe cost a night?",
    "When do I need a doctor's note?",
    "How much is there a year for courses and books?",
    "How many days off do I get for my own wedding?",
    "Who may carry leave over into the next year?",
    "Which journeys may I make by plane?",
    "What do I do where I lose the company card?",
    "How is pay continued while somebody is ill in Leeds?",
    "Which languages may I learn in working hours?",
)
"""What the handbook answers. A question that nobody has asked is one of these with a further sentence."""
PAGES: Final = 12
"""Of each bot's sample: more than an answer's passages are chosen from, and soon taken in."""
_AT_A_TIME: Final = 4
_AGAIN: Final = 5
_PATIENCE_S: Final = 900.0
_STATES: Final = (DocumentStatus.QUEUED, DocumentStatus.PROCESSING, DocumentStatus.FAILED)
_WORDS: Final = ("valve", "gauge", "hatch", "boiler", "ladder", "pump", "filter", "shelf", "fan", "door", "hose")
_EVERY_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Furniture:
    """How much of everything.

    Args:
        tenants: customers, each with a key of tier pro and `PAGES` pages of each bot.
        known: of `QUESTIONS`, how many are answered beforehand for each tenant.
        documents: further documents of the asked bot, for each tenant.
    """

    tenants: int = 4
    known: int = len(QUESTIONS)
    documents: int = 0

    def __post_init__(self) -> None:
        if self.tenants < 1 or self.documents < 0 or not 0 < self.known <= len(QUESTIONS):
            raise ValueError(f"a house has a tenant at least, and 1 to {len(QUESTIONS)} known questions")


class FurnishingError(RuntimeError):
    """The app does not take what a house needs. The message is a sentence."""


async def furnish(clients: Sequence[Client], furniture: Furniture) -> None:
    """Everything, for each tenant's client. Raises FurnishingError with what the app said."""
    for client in clients:
        await _ok(client.put(f"/v1/bots/{BOT}", {"title": "Staff handbook"}))
        await _ok(client.put(f"/v1/bots/{FILLED}", {"title": "Notes"}))
    pages = [(client, bot, page) for client in clients for bot, page in _pages(furniture.documents)]
    turns = asyncio.Semaphore(_AT_A_TIME)
    await asyncio.gather(*(_put(turns, client, bot, page) for client, bot, page in pages))
    for client in clients:
        await asyncio.gather(*(_ready(client, bot) for bot in (BOT, LEADS)))
    known = [(client, question) for question in QUESTIONS[: furniture.known] for client in clients]
    await asyncio.gather(*(_answered(turns, client, question) for client, question in known))


def ask(client: Client, question: str, **more: Any) -> Coroutine[Any, Any, Try]:
    """To the asked bot, with nothing said before."""
    return client.post(f"/v1/bots/{BOT}/chat", {"message": question, "history": [], **more})


def _pages(documents: int) -> Iterator[tuple[str, Mapping[str, str]]]:
    """By bot: the samples that ship, then as many further documents."""
    for bot, folder in ((BOT, HANDBOOK), (LEADS, PRICE_LISTS)):
        for path in sorted((folder / "knowledge").glob("*.md"))[:PAGES]:
            yield bot, {"slug": path.stem, "title": path.stem, "text": path.read_text("utf-8")}
    for number in range(documents):
        yield BOT, {"slug": f"more-{number}", "title": f"Further page {number}", "text": _prose(number)}


def _prose(number: int) -> str:
    """Some hundred words that no other number has, seeded by it."""
    chance = random.Random(number)  # noqa: S311 - prose, no secret
    return " ".join(
        f"In hall {chance.randrange(40)} machine {number} has a {chance.choice(_WORDS)} and a {chance.choice(_WORDS)}."
        for _ in range(12)
    )


async def _put(turns: asyncio.Semaphore, client: Client, bot: str, page: Mapping[str, str]) -> None:
    async with turns:
        await _ok(client.post(f"/v1/bots/{bot}/documents", page, Idempotency_Key=f"{bot}-{page['slug']}"))


async def _answered(turns: asyncio.Semaphore, client: Client, question: str) -> None:
    """A busy machine's store may be late here, too."""
    async with turns:
        for _ in range(_AGAIN):
            if (await ask(client, question)).ok:
                return
            await asyncio.sleep(_EVERY_S)
        await _ok(ask(client, question))


async def _ready(client: Client, bot: str) -> None:
    """Until no document of the bot is under way. What failed is tried again: on a busy machine a store may be late."""
    deadline, again = time.monotonic() + _PATIENCE_S, _AGAIN
    base = f"/v1/bots/{bot}/documents"
    while time.monotonic() < deadline:
        found = {each: (await _ok(client.get(f"{base}?limit=50&status={each.value}")))["items"] for each in _STATES}
        failures = found[DocumentStatus.FAILED]
        if failures and not again:
            raise FurnishingError(f"The document '{failures[0]['slug']}' was not taken in: {failures[0]['last_error']}")
        if not any(found.values()):
            return
        if failures:
            again -= 1
            for document in failures:
                await _ok(client.post(f"{base}/{document['id']}/retry", {}))
        await asyncio.sleep(_EVERY_S)
    raise FurnishingError(f"The documents of the bot '{bot}' were not taken in within {_PATIENCE_S:g} s.")


async def _ok(asked: Awaitable[Try]) -> Any:
    """The answer's JSON."""
    found = await asked
    if not found.ok:
        raise FurnishingError(f"The app does not take what its house is furnished with: {found.status} {found.code}.")
    return found.body
