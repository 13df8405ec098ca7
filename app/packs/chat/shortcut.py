"""A bot's answer from this process's cache, for the edge."""

from typing import Any

from pydantic import ValidationError

from app.errors import TrellisError
from app.http.shortcut import Shortcut
from app.pack import Kit
from app.packs.chat.api import SEED_PATH, chat_path, turns_of
from app.packs.chat.bots import Bots
from app.packs.chat.schemas import ChatIn, SeedChatIn
from app.principal import Principal


def build_shortcuts(kit: Kit, bots: Bots) -> tuple[Shortcut, ...]:
    """Of the two addresses that ask a bot."""

    def known(principal: Principal, bot: str, asked: ChatIn) -> bytes | None:
        if asked.stream:
            return None
        spec = bots.peek(principal, bot)
        if spec is None:
            return None
        history = None if asked.history is None else turns_of(asked.history, kit)
        return kit.assistant.peek(principal, spec, asked.message, history=history)

    def by_path(principal: Principal, bot: str, body: Any) -> bytes | None:
        try:
            return known(principal, bot, ChatIn.model_validate(body))
        except (TrellisError, ValidationError):
            return None

    def by_body(principal: Principal, _part: str, body: Any) -> bytes | None:
        try:
            asked = SeedChatIn.model_validate(body)
            return known(principal, asked.bot_id, asked)
        except (TrellisError, ValidationError):
            return None

    return Shortcut(chat_path("{bot}"), by_path), Shortcut(SEED_PATH, by_body)
