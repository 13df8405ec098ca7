"""Rows as the API shows them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from app.packs.teams.joining import Done
from app.packs.teams.limits import Limits, LimitsOut
from app.packs.teams.models import QuestionState, TeamQuestion, TeamTask
from app.packs.teams.schemas import QuestionHead, QuestionOut, TaskOut, TeamAnswer
from app.storage.base import MICROS

PROBLEM: Final = "problem"
"""In place of an answer: why there is none."""
_LATE: Final = timedelta(seconds=30)
_LOST: Final = "The server that worked on it ended before the answer was there: ask again."


def head(row: TeamQuestion, now: datetime) -> QuestionHead:
    return QuestionHead(**_head(row, now))


def question_out(row: TeamQuestion, tasks: Sequence[TeamTask], now: datetime) -> QuestionOut:
    answer = TeamAnswer.model_validate(row.answer) if "text" in row.answer else None
    return QuestionOut(
        **_head(row, now),
        limits=LimitsOut.of(Limits.model_validate(row.limits)),
        answer=answer,
        tasks=[_task(task) for task in tasks],
    )


def _head(row: TeamQuestion, now: datetime) -> dict[str, Any]:
    lost = is_lost(row, now)
    return {
        "id": row.id,
        "team": row.team,
        "question": row.question,
        "subject": row.subject,
        "state": QuestionState.FAILED if lost else row.state,
        "asked_by": row.asked_by,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
        "tokens": row.tokens,
        "cost_usd": row.cost_micros / MICROS,
        "duration_ms": round(row.duration_ms, 3),
        "problem": _LOST if lost else row.answer.get(PROBLEM, ""),
    }


def is_lost(row: TeamQuestion, now: datetime) -> bool:
    """Whether nobody works on it any more: its time is long over, and nothing was written of its end."""
    allowed = timedelta(seconds=Limits.model_validate(row.limits).seconds) + _LATE
    return row.state == QuestionState.RUNNING and now - row.created_at > allowed


def _task(row: TeamTask) -> TaskOut:
    names = TaskOut.model_fields.keys() - {"cost_usd"}
    return TaskOut(**{name: getattr(row, name) for name in names}, cost_usd=row.cost_micros / MICROS)


def task_out(one: Done) -> TaskOut:
    return TaskOut(
        **one.task.model_dump(),
        state=one.state,
        answer=one.answer,
        evidence=list(one.evidence),
        missing=list(one.missing),
        problem=one.problem,
        tools=list(one.tools),
        model=one.model,
        tokens=one.tokens,
        cost_usd=one.cost_micros / MICROS,
        duration_ms=round(one.duration_ms, 3),
    )
