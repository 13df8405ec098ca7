"""Questions to teams: asked, answered in time, written down; no session is held while an agent works."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import structlog

from app.errors import BudgetExceeded, Conflict, InvalidInput, TrellisError, Unavailable
from app.ids import new_id
from app.pack import Kit
from app.packs.teams.limits import Limits, LimitsOut, narrowed
from app.packs.teams.members import Able, AgentCrew, Asked, able_members
from app.packs.teams.models import QuestionState, TeamQuestion
from app.packs.teams.repository import QuestionRepository, TaskRepository
from app.packs.teams.running import Outcome, Progress, TeamRun
from app.packs.teams.schemas import (
    MemberOut,
    QuestionIn,
    QuestionOut,
    QuestionPage,
    TeamAnswer,
    TeamList,
    TeamOut,
)
from app.packs.teams.team import PACK, Teams, TeamSpec
from app.packs.teams.views import PROBLEM, head, question_out
from app.principal import Principal, Role
from app.telemetry import names, spans

Result = TypeVar("Result")
ANSWERED: Final = frozenset({"done", "partial"})
_STOPPED_S: Final = 30.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A question whose row is there."""

    asked: Asked
    limits: Limits
    able: Sequence[Able]
    run: TeamRun


class TeamService:
    def __init__(self, kit: Kit, teams: Teams) -> None:
        self._kit = kit
        self._teams = teams
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._writing: set[asyncio.Task[Any]] = set()

    async def ask(
        self, principal: Principal, team_name: str, body: QuestionIn, progress: Progress | None = None
    ) -> QuestionOut:
        """The team's answer, within the question's limits; whoever leaves before ends the work.

        Raises:
            NotFound: no such team. InvalidInput: an empty question, or limits above the team's own.
            Conflict: no member of the team has a tool here.
            Unavailable: the kill switch stops the teams, or no model answers.
            BudgetExceeded: the tenant's day is spent.
        """
        principal.require(Role.AGENT)
        team = self._teams.get(team_name)
        begun = await self._begin(principal, team, body, progress or Progress())
        try:
            with spans.span(names.TEAM_QUESTION, {names.TEAM: team.name}):
                gaps = [gap for one in begun.able for gap in one.gaps]
                outcome = await begun.run.run(gaps)
        except BaseException as error:
            await self._surely(self._finish(begun, QuestionState.FAILED, {PROBLEM: _why(error)}, _ending(error)))
            raise
        answer = _answer(outcome)
        state = _state(outcome, answer)
        return await self._surely(self._finish(begun, state, answer.model_dump(), state.value))

    async def get(self, principal: Principal, question_id: str) -> QuestionOut:
        """Raises NotFound."""
        principal.require(Role.AGENT)
        async with self._kit.ports.db.reading(principal.tenant_id) as session:
            row = await QuestionRepository(session, principal.tenant_id).get(question_id)
            tasks = await TaskRepository(session, principal.tenant_id).of_question(row.id)
        return question_out(row, tasks, self._kit.ports.clock())

    async def page(self, principal: Principal, team: str | None, cursor: str | None, limit: int) -> QuestionPage:
        """Newest first."""
        principal.require(Role.AGENT)
        where = [TeamQuestion.team == self._teams.get(team).name] if team else []
        async with self._kit.ports.db.reading(principal.tenant_id) as session:
            found = await QuestionRepository(session, principal.tenant_id).page(*where, cursor=cursor, limit=limit)
        now = self._kit.ports.clock()
        return QuestionPage(items=[head(row, now) for row in found.items], next_cursor=found.next_cursor)

    async def teams(self, principal: Principal) -> TeamList:
        """Every team, with what its members may look up for this tenant."""
        principal.require(Role.AGENT)
        return TeamList(teams=[await self._team(principal, team) for team in self._teams.all()])

    async def _team(self, principal: Principal, team: TeamSpec) -> TeamOut:
        members = [
            MemberOut(
                name=one.spec.name,
                title=one.spec.title,
                knows=one.spec.knows,
                tools=list(one.tools),
                absent=list(one.absent),
            )
            for one in await able_members(self._kit, principal, team)
        ]
        return TeamOut(
            name=team.name, title=team.title, answers=team.answers, limits=LimitsOut.of(team.limits), members=members
        )

    async def _begin(self, principal: Principal, team: TeamSpec, body: QuestionIn, progress: Progress) -> _Begun:
        self._check(principal, body)
        limits = narrowed(team.limits, body.limits)
        able = await able_members(self._kit, principal, team)
        if not any(one.tools for one in able):
            raise Conflict(
                f"No member of the team '{team.name}' may use a tool here: `trellis tools list` shows them, "
                "`trellis tools set NAME allow` allows one."
            )
        question_id = new_id("ques")
        question, subject = body.question.strip(), body.subject.strip()
        asked = Asked(principal, team, question, subject, question_id)
        row = _row(asked, limits, self._kit.ports.clock())
        async with self._kit.ports.db.transaction(principal.tenant_id) as session:
            QuestionRepository(session, principal.tenant_id).add(row)
            await self._kit.audit.record(session, principal, "team.asked", question_id, {"team": team.name})
        crew = AgentCrew(self._kit, asked, able)
        run = TeamRun(crew, question, limits, self._abandoned, progress)
        return _Begun(asked, limits, able, run)

    def _check(self, principal: Principal, body: QuestionIn) -> None:
        if self._kit.flags.killed(PACK, principal.tenant_id):
            raise Unavailable("The teams are switched off at the moment: try again later.", retry_after=_STOPPED_S)
        if not body.question.strip():
            raise InvalidInput("The question is empty: write what you want to know.")
        if "\0" in body.question or "\0" in body.subject:
            raise InvalidInput("The question holds the character U+0000: take it out.")

    async def _finish(self, begun: _Begun, state: QuestionState, answer: dict[str, Any], outcome: str) -> QuestionOut:
        """The question's end with all its tasks and the audit entry, in one transaction; then it is counted."""
        run, now, principal = begun.run, self._kit.ports.clock(), begun.asked.principal
        async with self._kit.ports.db.transaction(principal.tenant_id) as session:
            row = await QuestionRepository(session, principal.tenant_id).get(begun.asked.question_id)
            row.state, row.answer, row.finished_at = state, answer, now
            row.tokens, row.cost_micros = run.purse.tokens, run.purse.cost_micros
            row.duration_ms = run.time.elapsed_s * 1000
            tasks = TaskRepository(session, principal.tenant_id).write(row.id, run.done, now)
            data = {"team": row.team, "state": state, "tasks": len(run.done), "cost_micros": row.cost_micros}
            await self._kit.audit.record(session, principal, "team.answered", row.id, data)
            written = question_out(row, tasks, now)
        self._count(begun, outcome)
        return written

    async def _surely(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Runs the work to its end also where who waits for it goes away."""
        task = asyncio.create_task(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return await asyncio.shield(task)

    def _count(self, begun: _Begun, outcome: str) -> None:
        metrics, team, run = self._kit.metrics, begun.asked.team.name, begun.run
        metrics.teams_questions.labels(team, outcome).inc()
        metrics.teams_question_duration_seconds.labels(team).observe(run.time.elapsed_s)
        if outcome in ANSWERED:
            metrics.time_to_answer_seconds.labels(PACK, "whole").observe(run.time.elapsed_s)
        for one in run.done:
            metrics.teams_tasks.labels(one.task.member, one.state.value).inc()


def _row(asked: Asked, limits: Limits, now: datetime) -> TeamQuestion:
    return TeamQuestion(
        id=asked.question_id,
        created_at=now,
        team=asked.team.name,
        asked_by=asked.principal.user,
        subject=asked.subject,
        question=asked.question,
        state=QuestionState.RUNNING,
        limits=limits.model_dump(),
        answer={},
    )


def _answer(outcome: Outcome) -> TeamAnswer:
    joined = outcome.joined
    return TeamAnswer(
        text=joined.text,
        evidence=list(joined.evidence),
        missing=list(joined.missing),
        notes=list(joined.notes),
        planned_by=outcome.planned_by,
        joined_by=joined.by,
        model=joined.model,
        rounds=outcome.rounds,
    )


def _state(outcome: Outcome, answer: TeamAnswer) -> QuestionState:
    if not any(one.answered for one in outcome.done):
        return QuestionState.FAILED
    return QuestionState.PARTIAL if answer.missing else QuestionState.DONE


def _why(error: BaseException) -> str:
    if isinstance(error, TrellisError):
        return error.detail
    if isinstance(error, asyncio.CancelledError):
        return "Whoever asked went away before the answer was there."
    _log.error("teams.question_failed", exc_info=error)
    return "It failed for a reason of our own; the log has it."


def _ending(error: BaseException) -> str:
    """The label of the metric for a question that came to no answer."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, BudgetExceeded):
        return "refused"
    return "unavailable" if isinstance(error, Unavailable) else "failed"
