"""Conversations of a process that ended, in a file, until the next one takes them up."""

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from app.clock import Clock
from app.memory.base import KEPT_FOR, Conversation, Talk, lately
from app.memory.wire import pack_talks, talks_of

FILE: Final = "conversations.json"

_log = structlog.get_logger(__name__)


class MemoryFile:
    """Personal data: its user's alone to read, and gone once a server has taken it up.

    While a server has the data folder, there is no such file. What is older than a day is neither given out nor
    written again. A file that cannot be read is deleted, with a word in the log: no reason not to start.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.path = folder / FILE
        self._clock = clock

    async def take(self) -> list[Talk]:
        """What is kept, which the file then holds no more."""
        found = await self.read()
        await asyncio.to_thread(self.path.unlink, missing_ok=True)
        return found

    async def read(self) -> list[Talk]:
        """What is still to be kept."""
        talks = [self._kept(talk) for talk in await asyncio.to_thread(self._read)]
        return [talk for talk in talks if talk.turns or talk.summary]

    async def drop_expired(self) -> None:
        """Takes out what is older than a day."""
        if await asyncio.to_thread(self.path.exists):
            await self.write(await self.read())

    async def write(self, talks: Collection[Talk]) -> None:
        """In place of what is there, whole or not at all. Raises OSError."""
        await asyncio.to_thread(self._write, talks)

    async def talks(self) -> AsyncIterator[Talk]:
        """As `ConversationMemory.talks`."""
        for talk in await self.read():
            yield talk

    async def restore(self, talks: Iterable[Talk]) -> None:
        """As `ConversationMemory.restore`; of a conversation that the file holds, it keeps its own."""
        held = {_whose(talk): talk for talk in talks} | {_whose(talk): talk for talk in await self.read()}
        await self.write(list(held.values()))

    async def export(self, tenant_id: str, user: str) -> Mapping[str, Conversation]:
        """All that is kept of the user, by bot."""
        found = [talk for talk in await self.read() if (talk.tenant_id, talk.user) == (tenant_id, user)]
        return {talk.bot: Conversation(talk.turns, talk.summary and talk.summary[0]) for talk in found}

    async def forget(self, tenant_id: str, user: str, bot: str | None = None) -> None:
        """Erases what the user said, to that bot or (None) to every one."""
        held = await self.read()
        bots = {talk.bot for talk in held} if bot is None else {bot}
        gone = {(tenant_id, name, user) for name in bots}
        left = [talk for talk in held if _whose(talk) not in gone]
        if len(left) < len(held):
            await self.write(left)

    def _kept(self, talk: Talk) -> Talk:
        told = talk.summary if talk.summary and talk.summary[1] > self._clock() - KEPT_FOR else None
        return replace(talk, turns=tuple(lately(talk.turns, self._clock)), summary=told)

    def _read(self) -> list[Talk]:
        try:
            return talks_of(self.path.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            _log.error("kept conversations cannot be read", file=str(self.path), error=str(error))
            self.path.unlink(missing_ok=True)
            return []

    def _write(self, talks: Collection[Talk]) -> None:
        if not talks:
            self.path.unlink(missing_ok=True)
            return
        part = self.path.with_name(f"{FILE}.part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pack_talks(talks))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)


def _whose(talk: Talk) -> tuple[str, str, str]:
    return talk.tenant_id, talk.bot, talk.user
