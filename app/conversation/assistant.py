"""Answers one question of one user, as a stream of events: the way in for packs that talk."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from time import perf_counter
from typing import Final

import structlog

from app.agent.routing import ModelRouter
from app.clock import Clock
from app.conversation.chores import Chores
from app.conversation.events import Answer, CacheHit, Done, Event, Failed, Token
from app.conversation.flights import Flights
from app.conversation.history import Historian, History, fitting
from app.conversation.kept import KeptAnswers, again, events_of
from app.conversation.keys import Ground, answer_key, readable
from app.conversation.replay import Replayed, Replayer
from app.conversation.spec import AssistantSpec
from app.conversation.turn import Asked
from app.conversation.upstream import Upstream
from app.conversation.wire import gist, load
from app.errors import InvalidInput, Retryable, TrellisError, Unavailable
from app.governance.flags import Flags
from app.governance.models import Decision
from app.http.problems import InternalError
from app.ids import new_id
from app.knowledge.base import Namespace
from app.knowledge.retrieve import BOOSTS, REWRITE
from app.knowledge.versions import IndexVersions
from app.memory import Turn
from app.principal import Principal
from app.telemetry.metrics import Metrics

MAX_QUESTION: Final = 8_000
_STOPPED_S: Final = 60.0

_log = structlog.get_logger(__name__)


class Assistant:
    """Turns of any assistant. Built once, by `app.conversation.build`; a pack gets it as `kit.assistant`."""

    def __init__(
        self,
        clock: Clock,
        metrics: Metrics,
        flags: Flags,
        versions: IndexVersions,
        router: ModelRouter,
        historian: Historian,
        kept: KeptAnswers,
        upstream: Upstream,
        replayer: Replayer,
        chores: Chores,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._flags = flags
        self._versions = versions
        self._router = router
        self._historian = historian
        self._kept = kept
        self._upstream = upstream
        self._replayer = replayer
        self._chores = chores
        self._flights: Flights[Event] = Flights()

    def show(self, pack: str) -> None:
        """Puts the figures of a pack that talks at 0 before its first turn: a first failure is then an increase."""
        for outcome in ("answered", "refused", "failed", "cancelled"):
            self._metrics.answers.labels(pack, outcome, CacheHit.NONE.value)
        for helpful in ("true", "false"):
            self._metrics.answer_feedback.labels(pack, helpful)

    async def turn(
        self,
        principal: Principal,
        spec: AssistantSpec,
        question: str,
        *,
        history: Sequence[Turn] | None = None,
        streamed: bool,
    ) -> AsyncGenerator[Event, None]:
        """What happens, as it happens; ends with `Done` or `Failed`.

        Raises before the first event only: what goes wrong later is `Failed`. Closing the iterator (`aclosing`) gives
        the turn up: the model call is cancelled, and paid for as far as it came, unless somebody else listens to the
        same turn; memory and caches learn nothing of it then.

        Args:
            history: the earlier turns, oldest first, kept by the caller: memory is then neither read nor written.
                None is the memory of `principal.user` with this bot.
            streamed: False makes one whole call a step (cheaper); the text comes as one `Token`.

        Raises:
            InvalidInput: an empty question, or one of more than 8,000 characters.
            Unavailable: the kill switch stops the pack, or no model or embedder answers.
            BudgetExceeded: the tenant's day, or the spec's caps.
            DeadlineExceeded: out of time.
        """
        begun = partial = False
        try:
            async with aclosing(self._events(principal, spec, question, history, streamed=streamed)) as events:
                async for event in events:
                    begun, partial = True, partial or isinstance(event, Token)
                    yield event
        except Exception as error:
            if not begun:
                raise
            yield _failed(error, partial=partial)

    async def answer(
        self, principal: Principal, spec: AssistantSpec, question: str, *, history: Sequence[Turn] | None = None
    ) -> Answer:
        """The whole turn. Raises as `turn` does, whenever it happens."""
        async with aclosing(self._events(principal, spec, question, history, streamed=False)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event.answer
        raise InternalError

    def peek(
        self, principal: Principal, spec: AssistantSpec, question: str, *, history: Sequence[Turn] | None = None
    ) -> bytes | None:
        """The answer as `app.conversation.wire.dump` writes it, where this process has it at hand; else None.

        Awaits nothing. A hit is a whole turn: memory has it and metrics count it. After None call `answer` or `turn`,
        which say what is wrong where something is.
        """
        tenant_id = principal.tenant_id
        if not spec.cached or self._flags.killed(spec.pack, tenant_id):
            return None
        started = perf_counter()
        before = self._historian.peek(principal, spec) if history is None else _given(history, spec)
        version = self._versions.peek(Namespace(tenant_id, spec.bot))
        if before is None or version is None:
            return None
        now, question = self._clock(), readable(question)
        key = answer_key(self._ground(principal, spec, version, now), question, before)
        body = self._kept.answers.peek(key, tenant_id)
        if body is None:
            return None
        known = gist(body)
        if history is None:
            self._historian.put(principal, spec, now, question, known.text)
        self._count(spec, refused=known.refused, cache=known.cache, saved_micros=known.saved_micros)
        self._timed(spec, started, streamed=False)
        return body

    async def forget(self, tenant_id: str, user: str, bots: Sequence[str]) -> None:
        """Erases the vectors of the user's questions to these bots; what is in memory and caches is theirs to erase."""
        for bot in bots:
            await self._kept.semantic.forget(tenant_id, bot, user)

    async def replay(self, principal: Principal, spec: AssistantSpec, decision: Decision) -> Replayed:
        """A turn's decision made again from what it saw; nothing is written.

        Args:
            spec: as the bot is set now, with the decision's prompt version.

        Raises what the model raises.
        """
        return await self._replayer.replay(principal, spec, decision)

    async def settled(self) -> None:
        """Returns when what is done beside the answers is done."""
        await self._chores.done()

    async def close(self) -> None:
        await self._chores.close()

    async def _events(
        self,
        principal: Principal,
        spec: AssistantSpec,
        question: str,
        history: Sequence[Turn] | None,
        *,
        streamed: bool,
    ) -> AsyncGenerator[Event, None]:
        started = perf_counter()
        asked = await self._asked(principal, spec, question, history, streamed=streamed)
        body = await self._kept.answers.find(asked.key) if asked.key else None
        if body is not None:
            answer = replace(load(body), duration_ms=asked.elapsed_ms)
            self._count_hit(spec, answer)
            self._timed(spec, started, streamed=streamed)
            if history is None:
                await self._remember(asked, answer)
            for event in events_of(answer):
                yield event
            return
        counted, timed = asked.key is None, False
        async with aclosing(self._flights.ride(_flight_key(asked), lambda: self._upstream.run(asked))) as items:
            async for event, shared in items:
                if not counted:
                    self._kept.answers.count("shared" if shared else "miss")
                    counted = True
                if not timed and (isinstance(event, Done) or (streamed and isinstance(event, Token))):
                    self._timed(spec, started, streamed=streamed)
                    timed = True
                if isinstance(event, Done):
                    answer = self._joined(asked, event.answer) if shared else event.answer
                    if history is None:
                        await self._remember(asked, answer)
                    yield Done(answer)
                else:
                    yield event

    async def _asked(
        self,
        principal: Principal,
        spec: AssistantSpec,
        question: str,
        history: Sequence[Turn] | None,
        *,
        streamed: bool,
    ) -> Asked:
        self._check(principal, spec, question)
        question = readable(question)
        answers, now = self._kept.answers, self._clock()
        mark = answers.mark()
        version = await self._versions.current(Namespace(principal.tenant_id, spec.bot))
        before = await self._historian.read(principal, spec) if history is None else _given(history, spec)
        ground = self._ground(principal, spec, version, now)
        cached = spec.cached and answers.on(principal.tenant_id)
        if not cached:
            answers.count("off" if spec.cached else "bypass")
        key = answer_key(ground, question, before) if cached else None
        return Asked(principal, spec, question, before, now, ground, key, mark, streamed)

    def _check(self, principal: Principal, spec: AssistantSpec, question: str) -> None:
        if self._flags.killed(spec.pack, principal.tenant_id):
            raise Unavailable(
                f"The pack '{spec.pack}' is switched off at the moment: try again later.", retry_after=_STOPPED_S
            )
        if not question.strip():
            raise InvalidInput("The question is empty: write what you want to know.")
        if len(question) > MAX_QUESTION:
            raise InvalidInput(
                f"The question has {len(question)} characters, {MAX_QUESTION} are allowed: ask for less, or upload the "
                "text as a document."
            )

    def _ground(self, principal: Principal, spec: AssistantSpec, version: int, now: datetime) -> str:
        tenant_id = principal.tenant_id
        boosts, rewrite = (self._flags.bool(name, tenant_id) for name in (BOOSTS, REWRITE))
        user = principal.user if spec.personal or boosts else ""
        models = self._router.identity(spec.route)
        return Ground(tenant_id, user, version, models, (boosts, rewrite), now.date()).digest(spec)

    def _joined(self, asked: Asked, answer: Answer) -> Answer:
        """The answer of a turn that somebody else began."""
        joined = replace(again(answer, CacheHit.SHARED), duration_ms=asked.elapsed_ms)
        self._count_hit(asked.spec, joined)
        return joined

    def _count_hit(self, spec: AssistantSpec, answer: Answer) -> None:
        self._count(spec, refused=answer.refused, cache=answer.cache.value, saved_micros=answer.saved_micros)

    def _count(self, spec: AssistantSpec, *, refused: bool, cache: str, saved_micros: int) -> None:
        self._metrics.answers.labels(spec.pack, "refused" if refused else "answered", cache).inc()
        self._kept.answers.saved(saved_micros)

    def _timed(self, spec: AssistantSpec, started: float, *, streamed: bool) -> None:
        """Takes down how long the asker waited, whoever made the answer."""
        way = "first_piece" if streamed else "whole"
        self._metrics.time_to_answer_seconds.labels(spec.pack, way).observe(perf_counter() - started)

    async def _remember(self, asked: Asked, answer: Answer) -> None:
        principal, spec = asked.principal, asked.spec
        if await self._historian.add(principal, spec, asked.now, asked.question, answer.text):
            self._chores.add("summary", self._historian.summarise(principal, spec))


def _given(history: Sequence[Turn], spec: AssistantSpec) -> History:
    return History(fitting(history, spec.history_tokens))


def _flight_key(asked: Asked) -> str:
    """Turns with one key are one. Where tools may look at who asks, a turn is shared with nobody else."""
    if asked.key is None:
        return new_id("turn")
    who = asked.principal.user if asked.spec.tools else ""
    return f"{asked.key}:{asked.streamed}:{who}"


def _failed(error: Exception, *, partial: bool) -> Failed:
    if not isinstance(error, TrellisError):
        _log.error("conversation.turn_failed", exc_info=error)
        error = InternalError()
    return Failed(
        code=error.code,
        title=error.title,
        detail=error.detail,
        status=error.status,
        retry_after=error.retry_after if isinstance(error, Retryable) else None,
        partial=partial,
    )
