"""A stored answer of a bot made again from what it saw."""

from app.errors import NotFound
from app.governance.decisions import DecisionRepository
from app.pack import Kit, ReplayReport
from app.packs.chat.bots import Bots
from app.principal import Principal


class Replaying:
    """Uses the bot's present settings, with the prompt version of the decision; nothing is written."""

    def __init__(self, kit: Kit, bots: Bots) -> None:
        self._kit = kit
        self._bots = bots

    async def replay(self, principal: Principal, decision_id: str) -> ReplayReport:
        """Raises NotFound for a decision, a bot or a prompt version that is not there, and what the model raises."""
        async with self._kit.ports.db.reading(principal.tenant_id) as session:
            decision = await DecisionRepository(session, principal.tenant_id).find(decision_id)
        if decision is None:
            raise NotFound(f"There is no decision '{decision_id[:80]}'.")
        spec = await self._bots.as_decided(principal, decision.inputs["bot"], decision.prompt_version)
        replayed = await self._kit.assistant.replay(principal, spec, decision)
        return ReplayReport(decision_id, not replayed.differences, replayed.differences, replayed.note)
