"""The conversation room under test: scripted models, a plain vector store, and everything around built as it is."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from app.agent.model import ModelReply, ModelRequest, TextDelta
from app.agent.prompts import Prompt, PromptLibrary, PromptStatus, make_prompt
from app.agent.tools import Tool
from app.cache.caches import SWITCHES, Caches
from app.cache.lru import LruCache
from app.conversation.assistant import Assistant
from app.conversation.build import PROMPTS, Parts, build_assistant
from app.conversation.events import Answer, Citation, Done, Event, Token
from app.conversation.spec import AssistantSpec
from app.governance.flags import Flags, FlagSpec, kill_switch
from app.governance.models import Decision
from app.knowledge.boosts import CachedHistory
from app.knowledge.chunking import Bounds
from app.knowledge.generations import Generations
from app.knowledge.ingest import Ingestor
from app.knowledge.language import Glossary, LanguageGuess
from app.knowledge.ranking import Calibration
from app.knowledge.registry import Embedders
from app.knowledge.retrieve import FLAGS as RETRIEVAL_FLAGS
from app.knowledge.retrieve import Retriever, Tuning
from app.knowledge.versions import IndexVersions
from app.memory import LocalMemory
from app.principal import Principal, Role
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.agents import Room, ScriptedModel, build_room, reply
from tests.support.vectors import ReferenceVectors, WordsEmbedder

PACK, BOT = "chat", "support"
ASKER = Principal("acme", "key_acme", Role.AGENT)
COLLEAGUE = Principal("acme", "key_colleague", Role.AGENT)
STRANGER = Principal("other", "key_other", Role.AGENT)
PAGES = {
    "prices": "The price of a sensor is four euro fifty each month.",
    "refunds": "A refund is paid within thirty days of the return.",
    "support": "The emergency line is staffed by day and by night.",
}
PRICE_QUESTION = "what is the price of a sensor"
PRICE_ANSWER = "It is four euro fifty each month [1]."


def talking_prompt(version: int = 1, system: str = "Answer from the evidence.") -> Prompt:
    template = "Today is {{ today | trusted }}.\n{{ history }}\n{{ evidence }}\n{{ question }}"
    return make_prompt("answer", version, PromptStatus.ACTIVE, system, template, fence_key=b"k")


def assistant_spec(**changes: Any) -> AssistantSpec:
    base: dict[str, Any] = {"pack": PACK, "bot": BOT, "revision": "1", "prompt": talking_prompt(), "route": "cheap"}
    return AssistantSpec(**(base | changes))


class GatedModel(ScriptedModel):
    """Answers once its gate is open; tells how many wait, and how many were cancelled."""

    def __init__(self, *script: Any) -> None:
        super().__init__(*script)
        self.gate = asyncio.Event()
        self.cancelled = 0

    async def complete(self, request: ModelRequest, *, timeout_s: float) -> ModelReply:
        try:
            await asyncio.sleep(0)
            self.asked.append(request)
            await self.gate.wait()
            self.asked.pop()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().complete(request, timeout_s=timeout_s)


class PiecesModel(ScriptedModel):
    """Streams the given pieces, then what `end` gives: a whole reply, or an exception to break off with."""

    def __init__(self, pieces: Iterable[str], end: Exception | None = None, *, hold: bool = False) -> None:
        super().__init__("")
        self._pieces = list(pieces)
        self._end = end
        self.held = asyncio.Event()
        self._hold = hold
        self.closed = 0

    async def stream(self, request: ModelRequest, *, timeout_s: float) -> AsyncGenerator[TextDelta | ModelReply, None]:
        self.asked.append(request)
        try:
            for piece in self._pieces:
                yield TextDelta(piece)
            if self._hold:
                self.held.set()
                await asyncio.Event().wait()
        finally:
            self.closed += 1
        if self._end is not None:
            raise self._end
        yield reply("".join(self._pieces))


@dataclass
class Talk:
    """The room and what stands around it."""

    db: Database
    clock: StillClock
    room: Room
    assistant: Assistant
    memory: LocalMemory
    caches: Caches
    flags: Flags
    store: ReferenceVectors
    embedder: WordsEmbedder
    ingestor: Ingestor
    versions: IndexVersions
    switches: dict[str, bool] = field(default_factory=dict)

    def count(self, name: str, /, **labels: str) -> float:
        return self.room.count(name, **labels)

    async def fill(self, tenant_id: str = "acme", bot: str = BOT, pages: Mapping[str, str] = PAGES) -> None:
        for slug, text in pages.items():
            await self.ingestor.put(tenant_id, bot, slug, slug.title(), text, [slug])

    async def set_flag(self, name: str, value: bool, tenant: str | None = None) -> None:
        admin = Principal("*", "operator", Role.ADMIN)
        async with self.db.operator_transaction() as session:
            await self.flags.set(session, admin, name, value, tenant)
        await self.flags.refresh()

    async def decisions(self) -> list[Decision]:
        async with self.db.operator_reading() as session:
            return list((await session.scalars(select(Decision).order_by(Decision.id))).all())


def build_talk(db: Database, clock: StillClock, *models: Any, tools: Iterable[Tool] = ()) -> Talk:
    room = build_room(db, clock, *models, tools=tools)
    metrics = room.metrics
    flags = Flags(db, clock)
    flags.declare(*(FlagSpec(name, True, what) for name, what in SWITCHES.items()), *RETRIEVAL_FLAGS, kill_switch(PACK))
    caches = Caches(metrics, lambda name, tenant: flags.bool(name, tenant or "*"), None, clock)
    store, embedder, versions = ReferenceVectors(), WordsEmbedder(), IndexVersions(db, clock)
    generations = Generations(db, versions, Embedders(embedder), Bounds(largest=200, smallest=40, overlap=0))
    retriever = Retriever(
        store,
        generations,
        caches.retrieval,
        metrics,
        glossary=Glossary.load(),
        guess=LanguageGuess.load(),
        history=CachedHistory(LruCache(100, 1 << 20, lambda: clock().timestamp()), clock),
        switched_on=flags.bool,
        tuning=Tuning(Calibration(cosine=4, lexical=4, intercept=-3, floor=0.5)),
    )
    memory = LocalMemory(clock)
    parts = Parts(
        db=db,
        clock=clock,
        metrics=metrics,
        audit=room.audit,
        flags=flags,
        prompts=PromptLibrary.load([PROMPTS]),
        router=room.router,
        agent=room.agent,
        memory=memory,
        caches=caches,
        store=store,
        embedder=embedder,
        versions=versions,
        retriever=retriever,
    )
    ingestor = Ingestor(db, store, generations, versions, metrics, clock, caches=caches)
    return Talk(db, clock, room, build_assistant(parts), memory, caches, flags, store, embedder, ingestor, versions)


async def collected(events: AsyncGenerator[Event, None]) -> list[Event]:
    return [event async for event in events]


def said(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token))


def cited(events: Iterable[Event]) -> list[int]:
    return [event.number for event in events if isinstance(event, Citation)]


def last_answer(events: list[Event]) -> Answer:
    assert isinstance(events[-1], Done), events[-1]
    return events[-1].answer


Builder = Callable[..., Talk]
