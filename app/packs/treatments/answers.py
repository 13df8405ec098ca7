"""The model's answers by what they rest on: kept in rows that all alike customers share, asked for once at a time."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.ids import new_id
from app.packs.treatments.models import ModelAnswer, Result
from app.packs.treatments.profiles import Profile
from app.packs.treatments.proposing import ModelProposal
from app.packs.treatments.run_rows import deleted
from app.storage.db import Database
from app.storage.repository import TenantRepository

_AT_A_TIME: Final = 500
_ANSWERS: Final = cast(Table, ModelAnswer.__table__)


@dataclass(frozen=True, slots=True)
class Answered:
    """A kept answer: the id of its row, and what was proposed."""

    id: str
    proposals: tuple[ModelProposal, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an answer comes from, kept with it."""

    prompt_version: int
    catalogue_version: int
    model: str
    provider: str


class AnswerRepository(TenantRepository[ModelAnswer]):
    model = ModelAnswer
    noun = "answer"

    async def known(self, keys: Sequence[str]) -> dict[str, Answered]:
        found: dict[str, Answered] = {}
        for start in range(0, len(keys), _AT_A_TIME):
            rows = await self.all(ModelAnswer.key.in_(keys[start : start + _AT_A_TIME]))
            found |= {row.key: _answered(row) for row in rows}
        return found

    async def insert(self, rows: Sequence[dict[str, Any]]) -> None:
        """Rows whose key is there already change nothing."""
        dialect = postgresql if self.session.get_bind().dialect.name == "postgresql" else sqlite
        insert = dialect.insert(_ANSWERS).on_conflict_do_nothing(index_elements=["tenant_id", "key"])
        await self.session.execute(insert, [row | {"tenant_id": self.tenant_id} for row in rows])


class AnswerStore:
    """Answers of all tenants, each read and written in a transaction of its own."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def known(self, tenant_id: str, keys: Sequence[str]) -> dict[str, Answered]:
        async with self._db.reading(tenant_id) as session:
            return await AnswerRepository(session, tenant_id).known(keys)

    async def keep(
        self,
        tenant_id: str,
        profiles: Mapping[str, Profile],
        proposals: Mapping[str, Sequence[ModelProposal]],
        origin: Origin,
    ) -> dict[str, Answered]:
        """What is kept under the keys of `proposals` from now on: where another was quicker, its answer."""
        rows = [self._row(key, profiles[key], proposed, origin) for key, proposed in proposals.items()]
        async with self._db.transaction(tenant_id) as session:
            answers = AnswerRepository(session, tenant_id)
            await answers.insert(rows)
            return await answers.known(list(proposals))

    def _row(self, key: str, profile: Profile, proposed: Sequence[ModelProposal], origin: Origin) -> dict[str, Any]:
        return {
            "id": new_id("answer"),
            "created_at": self._clock(),
            "key": key,
            "profile": profile.shown(),
            "proposals": [proposal.model_dump() for proposal in proposed],
            "prompt_version": origin.prompt_version,
            "model": origin.model[:120],
            "provider": origin.provider[:60],
            "catalogue_version": origin.catalogue_version,
        }


async def forget_answers(session: AsyncSession, tenant_id: str, customers: Sequence[str]) -> int:
    """Deletes what the model said of words that these customers alone had, before their results go. How many."""
    theirs = Result.customer_id.in_(customers)
    of_tenant = (Result.tenant_id == tenant_id, Result.answer_id.is_not(None))
    asked = set(await session.scalars(select(Result.answer_id).where(*of_tenant, theirs).distinct()))
    shared = (*of_tenant, ~theirs, Result.answer_id.in_(asked))
    alone = asked - set(await session.scalars(select(Result.answer_id).where(*shared).distinct()))
    where = (ModelAnswer.tenant_id == tenant_id, ModelAnswer.id.in_(alone))
    return await deleted(session, ModelAnswer, *where)


class UnderWay:
    """Keys that somebody in this process is asking the model about: others wait for them and ask nothing."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, str], asyncio.Event] = {}

    def claim(self, tenant_id: str, keys: Iterable[str]) -> list[str]:
        """The keys that nobody asks about yet: the caller does, and says `done` of them, whatever happens."""
        mine = [key for key in keys if (tenant_id, key) not in self._asked]
        self._asked |= {(tenant_id, key): asyncio.Event() for key in mine}
        return mine

    def done(self, tenant_id: str, keys: Iterable[str]) -> None:
        for key in keys:
            self._asked.pop((tenant_id, key)).set()

    async def wait(self, tenant_id: str, keys: Iterable[str]) -> None:
        """Returns when none of the keys is asked about any more, answered or not."""
        for key in keys:
            event = self._asked.get((tenant_id, key))
            if event is not None:
                await event.wait()


def _answered(row: ModelAnswer) -> Answered:
    return Answered(row.id, tuple(ModelProposal.model_validate(proposal) for proposal in row.proposals))
