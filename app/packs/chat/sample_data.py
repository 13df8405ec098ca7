"""Loads what ships with the pack: the staff handbook of a company that does not exist, and the bot that knows it."""

from pathlib import Path
from typing import Final

from app.pack import Kit
from app.packs.chat.bots import BotRepository, Bots
from app.packs.chat.schemas import BotSettings
from app.principal import Principal

SAMPLE: Final = Path(__file__).with_name("sample")
BOT: Final = "handbook"


class SampleData:
    def __init__(self, kit: Kit, bots: Bots) -> None:
        self._kit = kit
        self._bots = bots

    async def load(self, principal: Principal) -> int:
        """Returns the number of pages that are new or changed."""
        changed = 0
        for path in sorted((SAMPLE / "knowledge").glob("*.md")):
            kept = await self._kit.ingestor.put_page(principal.tenant_id, BOT, path.read_text("utf-8"))
            changed += kept.changed
        async with self._kit.ports.db.transaction(principal.tenant_id) as session:
            # What somebody set since is theirs.
            if await BotRepository(session, principal.tenant_id).named(BOT) is None:
                settings = BotSettings(title="Frostbaken's staff handbook", open_to_users=True)
                await self._bots.put(session, principal, BOT, settings)
        return changed
