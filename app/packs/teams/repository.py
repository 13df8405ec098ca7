"""Questions and their tasks, one tenant's only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from app.ids import new_id
from app.packs.teams.joining import Done
from app.packs.teams.models import TeamQuestion, TeamTask
from app.storage.repository import TenantRepository


class QuestionRepository(TenantRepository[TeamQuestion]):
    model, noun = TeamQuestion, "question of a team"


class TaskRepository(TenantRepository[TeamTask]):
    model, noun = TeamTask, "task of a team"

    async def of_question(self, question_id: str) -> Sequence[TeamTask]:
        """In the order of their numbers."""
        query = self.query(TeamTask.question_id == question_id).order_by(TeamTask.number)
        found: Sequence[TeamTask] = (await self.session.scalars(query)).all()
        return found

    def write(self, question_id: str, done: Sequence[Done], now: datetime) -> list[TeamTask]:
        """The rows, in the order of `done`."""
        made = [TeamTask(**_columns(one), id=new_id("task"), created_at=now, question_id=question_id) for one in done]
        return [self.add(row) for row in made]


def _columns(one: Done) -> dict[str, Any]:
    return {
        **one.task.model_dump(),
        "state": one.state,
        "answer": one.answer,
        "evidence": [row.model_dump() for row in one.evidence],
        "missing": list(one.missing),
        "problem": one.problem,
        "tools": [use.model_dump() for use in one.tools],
        "model": one.model[:120],
        "tokens": one.tokens,
        "cost_micros": one.cost_micros,
        "duration_ms": one.duration_ms,
    }
