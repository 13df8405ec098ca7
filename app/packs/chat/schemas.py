"""What goes in and out of the chat agent's addresses."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.conversation.assistant import MAX_QUESTION
from app.conversation.semantic import DEFAULT_SEMANTIC_THRESHOLD
from app.http.bots import BotName
from app.packs.chat.models import Bot
from app.principal import Tier

MAX_HISTORY = 50
MAX_INSTRUCTIONS = 4_000


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BotSettings(_In):
    """How a bot answers.

    `semantic_threshold`: how sure it must be that two questions ask the same, 0 to 1, for the one to get the other's
    answer; null gives none. The default was chosen to give at most 1 % of them wrongly.
    `instructions`: words of the tenant's own, put after the prompt's system text. `min_tier`: whose keys, and users,
    may ask; `open_to_users`: whether end users may at all: for them there is no such bot otherwise.
    """

    title: str = Field("", max_length=200)
    prompt_version: int | None = Field(None, ge=1)
    route: Literal["cheap", "strong"] = "cheap"
    temperature: float = Field(0.0, ge=0, le=2, description="Above 0 no answer is kept in a cache.")
    max_tokens: int = Field(800, ge=16, le=8_000)
    tools: tuple[str, ...] = Field(
        (),
        max_length=16,
        description="Tools that read, and that the tenant allows; an end user's turn has those that are for users.",
    )
    passages: int = Field(5, ge=1, le=20)
    tags: tuple[str, ...] = Field((), max_length=20, description="Only documents that carry one of them.")
    needs_evidence: bool = Field(True, description="Refuse where the documents hold nothing that answers.")
    semantic_threshold: float | None = Field(DEFAULT_SEMANTIC_THRESHOLD, ge=0.5, le=1)
    history_tokens: int = Field(1500, ge=0, le=16_000)
    min_tier: Tier = Tier.FREE
    open_to_users: bool = False
    instructions: str = Field("", max_length=MAX_INSTRUCTIONS)
    cached: bool = True


class BotOut(BaseModel):
    """A bot; `revision` 0 where nobody has set anything and the defaults hold."""

    name: str
    settings: BotSettings
    revision: int
    updated_at: datetime | None

    @classmethod
    def untouched(cls, name: str) -> Self:
        return cls(name=name, settings=BotSettings(), revision=0, updated_at=None)

    @classmethod
    def of(cls, bot: Bot) -> Self:
        settings = BotSettings.model_validate(bot.settings)
        return cls(name=bot.name, settings=settings, revision=bot.revision, updated_at=bot.updated_at)


class BotPage(BaseModel):
    items: list[BotOut]
    next_cursor: str | None


class HistoryMessage(_In):
    role: Literal["user", "assistant"]
    content: str = Field(max_length=MAX_QUESTION)


class ChatIn(_In):
    """`history`: the earlier messages, oldest first, where the caller keeps them; left out, the last ten of the last
    24 hours are remembered here."""

    message: str = Field(min_length=1, max_length=MAX_QUESTION)
    stream: bool = False
    history: list[HistoryMessage] | None = Field(None, max_length=MAX_HISTORY)


class SeedChatIn(ChatIn):
    """As `ChatIn`, with the bot's name in the body."""

    bot_id: BotName


class FeedbackIn(_In):
    helpful: bool
    comment: str = Field("", max_length=2_000)


class FeedbackOut(BaseModel):
    decision_id: str
    helpful: bool
