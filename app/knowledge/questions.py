"""A bot's evaluation set, and what two generations of its index make of it."""

import hashlib
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import delete, select

from app.clock import Clock
from app.errors import InvalidInput
from app.ids import new_id
from app.knowledge.generations import Generation, public_name
from app.knowledge.models import Document, Question
from app.storage.repository import TenantRepository

MAX_QUESTIONS = 1_000
NDCG_AT = 10
RECALL_AT = 5
# The share of the active generation's figure that a candidate may fall short by: less is within what the choice of
# questions makes of it.
TOLERANCE = 0.01

Search = Callable[[Generation, str], Awaitable[Sequence[str]]]
"""Generation and question to the slugs of what it finds, best first, each once."""


class Asked(BaseModel):
    """One question, and the slugs of the documents that answer it."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, max_length=2_000, pattern=r"\S")
    slugs: list[str] = Field(min_length=1, max_length=20)


class Figures(BaseModel):
    """Means over the questions, 0 to 1.

    `ndcg_at_10`: a document that answers gains 1, discounted by log2(rank + 1), over the best order there is
    (Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002). `recall_at_5`: the share of the
    documents that answer among the first five.
    """

    ndcg_at_10: float
    recall_at_5: float


class Comparison(BaseModel):
    """What the questions said of a candidate beside the generation that answered then."""

    at: datetime
    questions: int
    questions_digest: str
    against: str
    candidate: Figures
    active: Figures

    @property
    def worse(self) -> bool:
        """Beyond the tolerance, in either figure."""
        return any(
            getattr(self.candidate, name) < getattr(self.active, name) - TOLERANCE for name in Figures.model_fields
        )


class QuestionRepository(TenantRepository[Question]):
    model = Question
    noun = "question"

    async def of_bot(self, bot: str) -> Sequence[Question]:
        return await self.all(Question.bot == bot)

    async def replace(self, bot: str, asked: Sequence[Asked], clock: Clock) -> None:
        """Raises InvalidInput for too many, one that is asked twice, or a slug that no document of the bot has."""
        await self._check(bot, asked)
        await self.session.execute(delete(Question).where(Question.tenant_id == self.tenant_id, Question.bot == bot))
        for one in asked:
            digest = _digest([one.question])
            row = Question(id=new_id("qst"), created_at=clock(), bot=bot, digest=digest, question=one.question)
            row.slugs = list(one.slugs)
            self.add(row)

    async def _check(self, bot: str, asked: Sequence[Asked]) -> None:
        if len(asked) > MAX_QUESTIONS:
            raise InvalidInput(f"An evaluation set has at most {MAX_QUESTIONS:,} questions, not {len(asked):,}.")
        if len({one.question for one in asked}) < len(asked):
            raise InvalidInput("A question is there twice: put all the documents that answer it beside it once.")
        named = {slug for one in asked for slug in one.slugs}
        columns = select(Document.slug).where(Document.tenant_id == self.tenant_id, Document.bot == bot)
        unknown = sorted(named - set((await self.session.scalars(columns)).all()))
        if unknown:
            raise InvalidInput(f"'{bot}' has no document '{unknown[0][:96]}': name documents by their slugs.")


def questions_digest(questions: Iterable[Question]) -> str:
    """Names a set of questions: a comparison on another one says nothing of this."""
    return _digest(f"{one.digest}{sorted(one.slugs)}" for one in questions)


async def compare(
    search: Search,
    questions: Sequence[Question],
    candidate: Generation,
    active: Generation,
    now: datetime,
) -> Comparison:
    """Asks both every question; there is at least one."""
    return Comparison(
        at=now,
        questions=len(questions),
        questions_digest=questions_digest(questions),
        against=public_name(active.id),
        candidate=await _figures(search, questions, candidate),
        active=await _figures(search, questions, active),
    )


async def _figures(search: Search, questions: Sequence[Question], generation: Generation) -> Figures:
    gains, found = 0.0, 0.0
    for question in questions:
        slugs = await search(generation, question.question)
        gains += ndcg(slugs, question.slugs)
        found += recall(slugs, question.slugs)
    return Figures(ndcg_at_10=gains / len(questions), recall_at_5=found / len(questions))


def ndcg(found: Sequence[str], right: Sequence[str], at: int = NDCG_AT) -> float:
    """0 to 1, see `Figures`."""
    gained = sum(1 / math.log2(rank + 2) for rank, slug in enumerate(found[:at]) if slug in right)
    return gained / sum(1 / math.log2(rank + 2) for rank in range(min(at, len(set(right)))))


def recall(found: Sequence[str], right: Sequence[str], at: int = RECALL_AT) -> float:
    """0 to 1, see `Figures`."""
    return len(set(found[:at]) & set(right)) / len(set(right))


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
