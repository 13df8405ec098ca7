"""A turn that no exact answer was kept for: evidence, model and tools, the decision, and what the caches keep."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from app.agent.loop import Agent
from app.agent.routing import DeadlineExceeded
from app.agent.talk import StepItem, TalkResult, TalkSpec, TextReset, ToolEnded, ToolStarted
from app.conversation.chores import Chores
from app.conversation.events import Answer, Citation, Done, Event, Token, ToolUsed
from app.conversation.evidence import Evidence
from app.conversation.kept import KeptAnswers
from app.conversation.phrases import Phrases
from app.conversation.record import record
from app.conversation.turn import Asked, Course
from app.conversation.writing import DecisionWriter
from app.knowledge.retrieve import Retriever
from app.knowledge.rewriting import Rewriter
from app.telemetry.metrics import Metrics

_CUT_OFF: Final = frozenset({"length", "content_filter"})


@dataclass(frozen=True, slots=True)
class Upstream:
    """Runs turns. Holds nothing of one, and no database session while a model answers."""

    writer: DecisionWriter
    metrics: Metrics
    agent: Agent
    retriever: Retriever
    rewriter: Rewriter
    phrases: Phrases
    kept: KeptAnswers
    chores: Chores

    async def run(self, asked: Asked) -> AsyncGenerator[Event, None]:
        """What happens; `Done` is last. Raises what the retrieval, the model or the database raise, DeadlineExceeded,
        and nothing is kept then: not in memory, not in a cache, not as a decision. What a model used is paid for.
        """
        pack, outcome, cache, spoke = asked.spec.pack, "failed", "none", False
        try:
            async with asyncio.timeout(asked.left_s) as limit, aclosing(self._events(asked)) as events:
                async for event in events:
                    if isinstance(event, Token) and not spoke:
                        spoke = True
                        self.metrics.answer_first_token_seconds.labels(pack).observe(asked.elapsed_ms / 1000)
                    if isinstance(event, Done):
                        outcome = "refused" if event.answer.refused else "answered"
                        cache = event.answer.cache.value
                    yield event
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded("The answer was not ready in time: ask again, or ask for less.") from None
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled"
            raise
        finally:
            self.metrics.answers.labels(pack, outcome, cache).inc()

    async def _events(self, asked: Asked) -> AsyncGenerator[Event, None]:
        similar = await self.kept.similar(asked)
        if similar is not None:
            for event in similar:
                yield event
            return
        course = await self._found(asked)
        if self._hopeless(course):
            text, result = self.phrases.refusal(asked.question), None
            yield Token(text)
        else:
            async with aclosing(self.said(course)) as items:
                async for item in items:
                    if isinstance(item, TalkResult):
                        result = item
                    else:
                        yield item
            text = course.cited.text
            if not text:
                text = self.phrases.refusal(asked.question)
                yield Token(text)
        answer = course.answer(text, result)
        await record(self.writer, course, answer, result)
        await self._keep(course, answer, result)
        self._observe(asked, answer)
        yield Done(answer)

    async def _found(self, asked: Asked) -> Course:
        principal, spec = asked.principal, asked.spec
        if self.phrases.small_talk(asked.question) is not None:
            return Course(asked, asked.question, Evidence(), small_talk=True)
        earlier = [turn.text for turn in asked.history.turns if turn.role == "user"]
        query = self.rewriter.rewrite(asked.question, earlier)
        passages = await self.retriever.search(
            principal.tenant_id, spec.bot, query, spec.passages, spec.tags, user=principal.user
        )
        usable = [passage for passage in passages if not (spec.needs_evidence and passage.weak)]
        return Course(asked, query, Evidence(usable))

    def _hopeless(self, course: Course) -> bool:
        """Nothing that a model could honestly say."""
        spec = course.asked.spec
        return spec.needs_evidence and not (spec.tools or course.small_talk or len(course.evidence))

    async def said(self, course: Course) -> AsyncGenerator[Token | Citation | ToolUsed | TalkResult, None]:
        """What the model and its tools make of the evidence; the result is last. Writes nothing down."""
        asked, spec = course.asked, course.asked.spec
        messages = spec.prompt.render(
            question=asked.question,
            evidence=course.evidence.prompted(),
            history=asked.history.prompted(),
            today=asked.now.date().isoformat(),
        )
        talk = self.agent.talk(
            asked.principal,
            _talk_spec(asked),
            messages,
            prompt=spec.prompt,
            facts=course.facts,
            subject_id=spec.bot,
            deadline_s=asked.left_s,
            streamed=asked.streamed,
            tell=course.evidence.numbered,
        )
        async with aclosing(talk) as items:
            async for item in items:
                if isinstance(item, TalkResult):
                    for event in _spoken(course, *course.cited.end()):
                        yield event
                    yield item
                else:
                    for event in self._events_of(course, item):
                        yield event

    def _events_of(self, course: Course, item: StepItem) -> Sequence[Token | Citation | ToolUsed]:
        if isinstance(item, ToolStarted):
            return [course.started(item)]
        if isinstance(item, ToolEnded):
            return [course.ended(item)]
        if isinstance(item, TextReset):
            course.cited.reset()
            return []
        return _spoken(course, *course.cited.feed(item.text, last=not course.asked.streamed))

    async def _keep(self, course: Course, answer: Answer, result: TalkResult | None) -> None:
        asked = course.asked
        principal, spec = asked.principal, asked.spec
        whole = result is not None and result.finish_reason not in _CUT_OFF
        if asked.key is not None and whole and course.rests_on_documents:
            await self.kept.put(asked, answer, [passage.document_id for _, passage in course.evidence])
        cited = [citation.document_id for citation in answer.citations]
        if cited:
            self.chores.add("liking", self.retriever.cited(principal.tenant_id, spec.bot, principal.user, cited))

    def _observe(self, asked: Asked, answer: Answer) -> None:
        pack = asked.spec.pack
        confidence = max((citation.score for citation in answer.citations), default=0.0)
        self.metrics.decision_confidence.labels(pack).observe(confidence)
        self.metrics.decisions.labels(pack, "refused" if answer.refused else "answered").inc()
        self.metrics.decision_duration_seconds.labels(pack).observe(answer.duration_ms / 1000)
        self.metrics.own_share_seconds.labels(pack).observe(max(0.0, answer.duration_ms - answer.model_ms) / 1000)


def _talk_spec(asked: Asked) -> TalkSpec:
    spec = asked.spec
    return TalkSpec(
        name=spec.pack,
        tools=spec.tools,
        route=spec.route,
        max_steps=spec.max_steps,
        caps=spec.caps,
        max_tokens=spec.max_tokens,
        temperature=spec.temperature,
    )


def _spoken(course: Course, text: str, fresh: Sequence[int]) -> list[Token | Citation | ToolUsed]:
    said: list[Token | Citation | ToolUsed] = [Token(text)] if text else []
    return [*said, *(course.evidence.citation(number) for number in fresh)]
