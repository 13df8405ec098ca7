"""What talking leaves of a person outside the database: memory, tastes, kept answers, streams."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

from sqlalchemy import select

from app.cache.base import person_tag
from app.cache.caches import Caches
from app.conversation.assistant import Assistant
from app.governance.people import Aliases, Kind
from app.http.streaming import Streams
from app.knowledge.models import KnowledgeIndex
from app.knowledge.retrieve import Retriever
from app.memory import ConversationMemory, MemoryFile
from app.storage.db import Database


class MemoryOfPerson:
    """`PersonTraces` of what was said lately: in memory, and in the file of a process that ended."""

    name = "memory"

    def __init__(self, memory: ConversationMemory, file: MemoryFile) -> None:
        self._places: tuple[ConversationMemory | MemoryFile, ...] = (memory, file)

    async def export(self, tenant_id: str, known: Aliases) -> list[dict[str, Any]]:
        rows = []
        for place, user in product(self._places, known.of(Kind.USER)):
            for bot, talk in (await place.export(tenant_id, user)).items():
                turns = [{**asdict(turn), "at": turn.at.isoformat()} for turn in talk.turns]
                rows.append({"user": user, "bot": bot, "turns": turns, "summary": talk.summary})
        return rows

    async def erase(self, tenant_id: str, known: Aliases) -> int:
        """Counts conversations."""
        talks = len(await self.export(tenant_id, known))
        for place, user in product(self._places, known.of(Kind.USER)):
            await place.forget(tenant_id, user)
        return talks


class TastesOfPerson:
    """`PersonTraces` of which documents a person's answers cited."""

    name = "tastes"

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    async def export(self, tenant_id: str, known: Aliases) -> list[dict[str, Any]]:
        rows = []
        for user in known.of(Kind.USER):
            bots = await self._retriever.export(tenant_id, user)
            rows += [{"user": user, "bot": bot, "documents": documents} for bot, documents in bots.items()]
        return rows

    async def erase(self, tenant_id: str, known: Aliases) -> int:
        return sum([await self._retriever.forget(tenant_id, user) for user in known.of(Kind.USER)])


class AnswersOfPerson:
    """`PersonTraces` of answers that are kept to be given again: in the caches, by the vectors of their questions, as
    streams that a client may come back to. They are copies of what other stores export."""

    name = "answers"

    def __init__(self, db: Database, caches: Caches, assistant: Assistant, streams: Streams) -> None:
        self._db = db
        self._caches = caches
        self._assistant = assistant
        self._streams = streams

    async def export(self, _tenant_id: str, _known: Aliases) -> list[dict[str, Any]]:
        return []

    async def erase(self, tenant_id: str, known: Aliases) -> int:
        """Counts entries of caches and streams; of vectors nobody keeps count."""
        people = known.of(Kind.USER, Kind.RECORD)
        dropped = await self._caches.drop(*(person_tag(tenant_id, one) for one in people)) if people else 0
        users = known.of(Kind.USER)
        if users:
            bots = await self._bots(tenant_id)
            for user in users:
                await self._assistant.forget(tenant_id, user, bots)
                dropped += self._streams.forget(tenant_id, user)
        return dropped

    async def _bots(self, tenant_id: str) -> Sequence[str]:
        """Every bot of whose documents an answer could have been made: only those are kept by meaning."""
        async with self._db.reading(tenant_id) as session:
            bots = select(KnowledgeIndex.bot).where(KnowledgeIndex.tenant_id == tenant_id).distinct()
            return (await session.scalars(bots)).all()
