"""What was said before, as far as a prompt has room: the newest turns whole, a summary of the ones before."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cachetools import LRUCache

from app.agent.loop import Agent
from app.agent.model import estimate_tokens
from app.agent.prompts import PromptLibrary
from app.agent.talk import TalkResult, TalkSpec
from app.conversation.spec import AssistantSpec
from app.memory import ConversationMemory, LocalMemory, Turn
from app.principal import Principal

SUMMARY_PROMPT: Final = "conversation_summary"
SUMMARY_DEADLINE_S: Final = 30.0
_SUMMARY: Final = TalkSpec(name=SUMMARY_PROMPT, tools=(), route="cheap", max_steps=1, max_tokens=300)
_TURN_TOKENS: Final = 4
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class History:
    """`turns` oldest first; `summary` is of what was said before them, "" where that is nothing."""

    turns: tuple[Turn, ...] = ()
    summary: str = ""

    def __bool__(self) -> bool:
        return bool(self.turns or self.summary)

    def prompted(self) -> str:
        """As a prompt shows it."""
        before = [f"Before that, in short: {self.summary}"] if self.summary else []
        return "\n".join([*before, *said(self.turns)]) or "none"


def said(turns: Sequence[Turn]) -> list[str]:
    return [f"{turn.role}: {turn.text}" for turn in turns]


def fitting(turns: Sequence[Turn], tokens: int) -> tuple[Turn, ...]:
    """The newest turns that take at most `tokens` together; an answer never without its question."""
    first = len(turns)
    for at in range(len(turns) - 1, -1, -1):
        tokens -= estimate_tokens(turns[at].text) + _TURN_TOKENS
        if tokens < 0:
            break
        if turns[at].role == "user":
            first = at
    return tuple(turns[first:])


class Historian:
    """Reads and writes a user's conversation with a bot."""

    def __init__(self, memory: ConversationMemory, agent: Agent, prompts: PromptLibrary) -> None:
        self._memory = memory
        self._agent = agent
        self._prompts = prompts
        self._summarised: LRUCache[tuple[str, str, str], datetime] = LRUCache(_REMEMBERED)

    async def read(self, principal: Principal, spec: AssistantSpec) -> History:
        """What the user and the bot said lately."""
        whose = _whose(principal, spec)
        turns = await self._memory.recent(*whose)
        kept = fitting(turns, spec.history_tokens)
        return History(kept, await self._memory.summary(*whose) or "" if len(kept) < len(turns) else "")

    def peek(self, principal: Principal, spec: AssistantSpec) -> History | None:
        """`read` without waiting; None where the memory is not of this process, or a summary belongs to it."""
        if not isinstance(self._memory, LocalMemory):
            return None
        turns = self._memory.peek(*_whose(principal, spec))
        kept = fitting(turns, spec.history_tokens)
        return History(kept) if len(kept) == len(turns) else None

    def put(self, principal: Principal, spec: AssistantSpec, now: datetime, question: str, answer: str) -> None:
        """`add` after a `peek` that found the memory at hand."""
        if isinstance(self._memory, LocalMemory):
            self._memory.put(*_whose(principal, spec), *_turns(now, question, answer))

    async def add(self, principal: Principal, spec: AssistantSpec, now: datetime, question: str, answer: str) -> bool:
        """Remembers a turn; whether some of the conversation has no room any more and should be summarised."""
        whose = _whose(principal, spec)
        turns = await self._memory.add(*whose, *_turns(now, question, answer))
        return bool(self._unsummarised(whose, turns, spec))

    async def summarise(self, principal: Principal, spec: AssistantSpec) -> None:
        """Puts the turns that have no room any more into the summary. Raises what the model raises."""
        whose = _whose(principal, spec)
        turns = self._unsummarised(whose, await self._memory.recent(*whose), spec)
        if not turns:
            return
        before = await self._memory.summary(*whose) or ""
        await self._memory.summarise(*whose, await self._summary(principal, spec, before, turns))
        self._summarised[whose] = turns[-1].at

    def _unsummarised(self, whose: tuple[str, str, str], turns: Sequence[Turn], spec: AssistantSpec) -> list[Turn]:
        without_room = turns[: len(turns) - len(fitting(turns, spec.history_tokens))]
        last = self._summarised.get(whose)
        return [turn for turn in without_room if last is None or turn.at > last]

    async def _summary(self, principal: Principal, spec: AssistantSpec, before: str, turns: Sequence[Turn]) -> str:
        prompt = self._prompts.get(SUMMARY_PROMPT)
        talk = self._agent.talk(
            principal,
            replace(_SUMMARY, pack=spec.pack),
            prompt.render(summary=before or "none", turns="\n".join(said(turns))),
            prompt=prompt,
            facts={"summary": before, "questions": [turn.text for turn in turns if turn.role == "user"]},
            subject_id=spec.bot,
            deadline_s=SUMMARY_DEADLINE_S,
            streamed=False,
        )
        text = ""
        async with aclosing(talk) as items:
            async for item in items:
                if isinstance(item, TalkResult):
                    text = item.text
        return text.strip()


def _turns(now: datetime, question: str, answer: str) -> tuple[Turn, Turn]:
    return Turn("user", question, now), Turn("assistant", answer, now)


def _whose(principal: Principal, spec: AssistantSpec) -> tuple[str, str, str]:
    return principal.tenant_id, spec.bot, principal.user
