"""A sample of what users get, on both sides: what is found and quoted for a question, why a decision came out so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.container.index import Index
from app.conversation.evidence import passage_row
from app.conversation.offline import QuotingAnswer, TurnFacts, conversation_answer
from app.errors import Conflict
from app.governance.decisions import explain
from app.governance.models import Decision
from app.knowledge.base import Passage
from app.knowledge.models import ChunkRow, Document, Question
from app.knowledge.sentences import quotable
from app.promotion.steps import Context, Finding, StepReport
from app.promotion.vectors import VectorFill
from app.storage.db import Database

NAME: Final = "answers"
ASKED: Final = 50
"""Questions for each bot, and decisions, unless told otherwise."""
LEAST_ALIKE: Final = 0.9
SHOWN: Final = 20
SEED: Final = 20_26
PASSAGES: Final = 5
_LEAST_WORDS: Final = 4
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to a tenant's bot."""

    tenant_id: str
    bot: str
    question: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What both sides make of a question. `overlap`: the share of passages that both found, 0 to 1."""

    asked: Asked
    overlap: float
    same_answer: bool

    @property
    def differs(self) -> bool:
        return self.overlap < 1 or not self.same_answer


class Sample:
    """The questions that each bot is asked, and the decisions that are looked at: the same ones for the same rows and
    the same seed."""

    def __init__(self, db: Database, *, size: int = ASKED, seed: int = SEED) -> None:
        self._db = db
        self._size = size
        self._seed = seed

    async def questions(self) -> list[Asked]:
        """Of each bot its stored questions, and sentences of its documents where those are too few."""
        async with self._db.operator_reading() as session:
            bots = (await session.execute(select(Document.tenant_id, Document.bot).distinct())).all()
            return [
                Asked(tenant_id, bot, question)
                for tenant_id, bot in sorted(bots)
                for question in await self._of_bot(session, tenant_id, bot)
            ]

    async def decisions(self) -> list[str]:
        """Ids."""
        async with self._db.operator_reading() as session:
            ids = (await session.scalars(select(Decision.id).order_by(Decision.id))).all()
        return self._some(ids, self._size)

    async def _of_bot(self, session: AsyncSession, tenant_id: str, bot: str) -> list[str]:
        held = (Question.tenant_id == tenant_id, Question.bot == bot)
        stored = (await session.scalars(select(Question.question).where(*held).order_by(Question.id))).all()
        chosen = self._some(stored, self._size)
        chunks = select(ChunkRow.id).join(Document).where(ChunkRow.tenant_id == tenant_id, Document.bot == bot)
        ids = (await session.scalars(chunks.order_by(ChunkRow.id))).all()
        wanted = self._some(ids, self._size - len(chosen))
        texts = select(ChunkRow.id, ChunkRow.text).where(ChunkRow.tenant_id == tenant_id, ChunkRow.id.in_(wanted))
        found = sorted((await session.execute(texts)).all())
        return [*chosen, *(_sentence(text) for _, text in found)]

    def _some(self, of: Sequence[str], wanted: int) -> list[str]:
        return Random(self._seed).sample(of, min(wanted, len(of)))  # noqa: S311 - a sample, no secret


class AnswerStep:
    """`Step`: asks both sides before the switch, and looks at decisions within it.

    Args:
        asks: whether questions are asked; else decisions alone are looked at.
        empty: the source's index is one of this process, to be filled from the source's rows first.
        least: the share of passages and of answers that must be alike, 0 to 1.
    """

    name = NAME

    def __init__(
        self, source: Index, target: Index, sample: Sample, *, asks: bool, empty: bool, least: float = LEAST_ALIKE
    ) -> None:
        self._source = source
        self._target = target
        self._sample = sample
        self._asks = asks
        self._empty = empty
        self._least = least
        self._answer: QuotingAnswer = conversation_answer()
        self._decisions: list[str] = []

    async def run(self, context: Context) -> StepReport:
        """Raises Conflict where too little is alike."""
        self._decisions = await self._sample.decisions()
        if not self._asks:
            return StepReport(NAME)
        if self._empty:
            await VectorFill(self._source).fill()
        questions = await self._sample.questions()
        compared = []
        for number, asked in enumerate(questions, 1):
            compared.append(await self._compare(asked))
            context.progress(NAME, number, len(questions))
        return StepReport(NAME, _figures(compared), (self._judged(compared),))

    async def settle(self, _context: Context) -> StepReport:
        """Raises Conflict for a decision that is explained otherwise."""
        ids = self._decisions or await self._sample.decisions()
        here, there = [await _explained(side.db, ids) for side in (self._source, self._target)]
        other = sorted(id for id in {*here, *there} if here.get(id) != there.get(id))
        if other:
            raise Conflict(f"{len(other)} of {len(here)} decisions are explained otherwise there: {_first(other)}.")
        seen = f"{len(here)} decisions of the sample"
        return StepReport(NAME, {"decisions": len(here)}, (Finding("decisions are explained alike", True, seen),))

    async def verify(self, _context: Context) -> StepReport:
        """Nothing more: the new side has begun to change."""
        return StepReport(NAME)

    async def _compare(self, asked: Asked) -> Compared:
        here, there = [
            await side.retriever.search(asked.tenant_id, asked.bot, asked.question, PASSAGES)
            for side in (self._source, self._target)
        ]
        both = {passage.chunk_id for passage in here} & {passage.chunk_id for passage in there}
        overlap = len(both) / max(len(here), len(there), 1) if here or there else 1.0
        return Compared(asked, overlap, self._said(asked, here) == self._said(asked, there))

    def _said(self, asked: Asked, passages: Sequence[Passage]) -> str:
        rows = [{"number": number, **passage_row(passage)} for number, passage in enumerate(passages, 1)]
        facts = {"question": asked.question, "query": asked.question, "passages": rows}
        return self._answer.answer(TurnFacts.model_validate(facts))

    def _judged(self, compared: Sequence[Compared]) -> Finding:
        overlap, same = _shares(compared)
        seen = f"{overlap:.1%} of the passages and {same:.1%} of the answers to {len(compared)} questions are the same"
        if min(overlap, same) < self._least:
            differing = [one.asked.question for one in compared if one.differs]
            raise Conflict(
                f"The new side answers otherwise: {seen}, and {self._least:.0%} are asked for. For example: "
                f"{_first(differing)}."
            )
        return Finding("questions are answered alike", True, seen)


async def _explained(db: Database, ids: Sequence[str]) -> Mapping[str, Any]:
    """By id, as values and not as text: PostgreSQL keeps the keys of an object in an order of its own."""
    async with db.operator_reading() as session:
        rows = (await session.scalars(select(Decision).where(Decision.id.in_(ids)))).all()
    return {row.id: explain(row).model_dump(mode="json") for row in rows}


def _shares(compared: Sequence[Compared]) -> tuple[float, float]:
    """Of passages and of answers that are the same; 1 where nothing was asked."""
    if not compared:
        return 1.0, 1.0
    return fmean(one.overlap for one in compared), fmean(one.same_answer for one in compared)


def _figures(compared: Sequence[Compared]) -> Mapping[str, Any]:
    overlap, same = _shares(compared)
    differing = [one for one in compared if one.differs]
    return {
        "questions": len(compared),
        "bots": len({(one.asked.tenant_id, one.asked.bot) for one in compared}),
        "overlap": round(overlap, 4),
        "same_answers": round(same, 4),
        "differing": [
            {"tenant": one.asked.tenant_id, "bot": one.asked.bot, "question": one.asked.question[:200]}
            | {"overlap": round(one.overlap, 2), "same_answer": one.same_answer}
            for one in differing[:SHOWN]
        ],
    }


def _sentence(text: str) -> str:
    """The first one of some length, else the text's beginning."""
    return next((one.text for one in quotable(text) if len(one.text.split()) >= _LEAST_WORDS), text)[:_LONGEST]


def _first(names: Sequence[str]) -> str:
    return ", ".join(f"'{name[:120]}'" for name in names[:3])
