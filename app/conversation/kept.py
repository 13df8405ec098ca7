"""Finished answers that are given again: to the same question, or to one that means the same."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from app.cache.base import MAX_TTL_S, bot_tag, document_tag, person_tag, tenant_tag
from app.cache.tiered import Tier, TieredCache
from app.conversation.chores import Chores
from app.conversation.echoes import echoes
from app.conversation.events import Answer, CacheHit, Done, Event, Token
from app.conversation.semantic import SemanticAnswers
from app.conversation.turn import Asked
from app.conversation.wire import dump, load
from app.governance.flags import Flags
from app.telemetry.metrics import Metrics

SEMANTIC_FLAG: Final = "cache.semantic"
# A search that hangs must not cost more than the model call that it may spare.
_SEMANTIC_S: Final = 1.0

_log = structlog.get_logger(__name__)


def again(answer: Answer, cache: CacheHit) -> Answer:
    """An answer as one who did not pay for it gets it."""
    return replace(
        answer,
        cache=cache,
        cost_micros=0,
        saved_micros=answer.cost_micros or answer.saved_micros,
        model_ms=0.0,
        duration_ms=0.0,
    )


def events_of(answer: Answer) -> list[Event]:
    """A kept answer as a turn that has just happened."""
    return [Token(answer.text), *answer.citations, Done(answer)]


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """The exact cache is `answers`, its entries `wire.dump`s of answers that are already `again`.

    `is_small` tells words that say nothing by themselves.
    """

    answers: TieredCache
    semantic: SemanticAnswers
    flags: Flags
    metrics: Metrics
    chores: Chores
    is_small: Callable[[str], bool]

    async def similar(self, asked: Asked) -> list[Event] | None:
        """The answer to a question that means the same, as events; a failure of the search is a miss."""
        threshold = asked.spec.semantic_threshold
        if asked.key is None or threshold is None or not self._by_meaning(asked):
            return None
        body: bytes | None = None
        tier: Tier = "none"
        try:
            async with asyncio.timeout(_SEMANTIC_S):
                body, tier = await self._nearest(asked, threshold)
        except Exception as error:
            _log.warning("conversation.semantic_failed", error=repr(error))
        self.metrics.cache_requests.labels("semantic", tier, "miss" if body is None else "hit").inc()
        if body is None:
            return None
        answer = replace(load(body), cache=CacheHit.SEMANTIC, duration_ms=asked.elapsed_ms)
        self.metrics.cache_saved_usd.labels("semantic").inc(answer.saved_micros / 1_000_000)
        return events_of(answer)

    async def put(self, asked: Asked, answer: Answer, document_ids: Sequence[str]) -> None:
        """Keeps an answer that rests on the bot's documents alone."""
        if asked.key is None:
            return
        tenant_id, user = asked.principal.tenant_id, asked.principal.user
        tags = (
            tenant_tag(tenant_id),
            bot_tag(tenant_id, asked.spec.bot),
            person_tag(tenant_id, user),
            *(document_tag(tenant_id, document_id) for document_id in dict.fromkeys(document_ids)),
        )
        body = dump(again(answer, CacheHit.EXACT))
        await self.answers.set(asked.key, body, MAX_TTL_S, tags, tenant_id=tenant_id, since=asked.mark)
        if asked.spec.semantic_threshold is not None and self._by_meaning(asked) and _general(answer):
            sources = [f"{one.title}\n{one.heading}\n{one.quote}" for one in answer.citations]
            echoed = echoes(asked.question, answer.text, sources, self.is_small)
            put = self.semantic.put(tenant_id, asked.spec.bot, asked.ground, asked.question, asked.key, user, echoed)
            self.chores.add("semantic", put)

    def _by_meaning(self, asked: Asked) -> bool:
        """Whether another question's answer may serve: of nobody in particular, without anything said before."""
        if asked.spec.personal or asked.history:
            return False
        return self.flags.bool(SEMANTIC_FLAG, asked.principal.tenant_id) and self.answers.on(asked.principal.tenant_id)

    async def _nearest(self, asked: Asked, threshold: float) -> tuple[bytes | None, Tier]:
        tenant_id, bot = asked.principal.tenant_id, asked.spec.bot
        found = await self.semantic.nearest(tenant_id, bot, asked.ground, asked.question, threshold)
        if found is None:
            return None, "none"
        key, _ = found
        body, tier = await self.answers.look(key)
        if body is None:
            self.chores.add("semantic", self.semantic.remove(tenant_id, bot, key))
        return body, tier


def _general(answer: Answer) -> bool:
    return answer.grounded and not answer.refused and not answer.tools
