"""The run of one question: plan, work, join, and perhaps once more. It ends in time whatever the agents do.

Knows no model and no database: a `Crew` asks the agents, `Progress` is told what happens.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar

import structlog

from app.agent.routing import DeadlineExceeded, ModelUnavailable
from app.errors import BudgetExceeded, TrellisError
from app.packs.teams.joining import Done, Joined, checked, side_by_side, unanswered, with_notes
from app.packs.teams.limits import Limits, Purse, Share, Timeline
from app.packs.teams.models import TaskState
from app.packs.teams.planner import CheckedPlan, fallback
from app.packs.teams.planner import checked as checked_plan
from app.packs.teams.schemas import Gap, JointAnswer, Plan, PlannedTask
from app.telemetry import names, spans

Result = TypeVar("Result")
_LEAST_S: Final = 0.05
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Help:
    """What an agent of the team works with: the question's earlier answers, its part of the budget, its time.

    `until` is of the event loop's clock; `most` tasks may still be planned, `gaps` is what the last answer lacks.
    """

    done: tuple[Done, ...]
    share: Share
    until: float
    most: int = 0
    gaps: tuple[Gap, ...] = ()


class Crew(Protocol):
    """The agents of one team, for one question. Each raises TrellisError where it comes to nothing."""

    @property
    def members(self) -> Sequence[str]:
        """Those who can be asked."""

    async def plan(self, work: Help) -> Plan: ...

    async def answer(self, task: PlannedTask, work: Help) -> Done: ...

    async def join(self, work: Help) -> tuple[JointAnswer, str]:
        """The answer, and the model that gave it."""

    def stopped(self) -> bool:
        """Whether somebody has switched the teams off."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Who is told what happens, as it happens."""

    planned: Callable[[Sequence[PlannedTask], str], None] = lambda _tasks, _by: None
    started: Callable[[PlannedTask], None] = lambda _task: None
    ended: Callable[[Done], None] = lambda _done: None


@dataclass(slots=True)
class Outcome:
    """What the question came to: every task that was planned has one entry in `done`, in the order of numbers."""

    joined: Joined
    done: tuple[Done, ...]
    planned_by: str
    rounds: int


@dataclass(slots=True)
class TeamRun:
    """One question. `abandoned` keeps agents that do not end when they are told to, until they do."""

    crew: Crew
    question: str
    limits: Limits
    abandoned: set[asyncio.Task[Any]]
    progress: Progress = field(default_factory=Progress)
    purse: Purse = field(init=False)
    time: Timeline = field(init=False)
    _done: dict[int, Done] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)
    _planned_by: str = "model"

    def __post_init__(self) -> None:
        self.purse = Purse(self.limits)
        self.time = Timeline(self.limits.seconds, asyncio.get_running_loop().time)

    async def run(self, gaps: Sequence[Gap] = ()) -> Outcome:
        """The answer, within the limits' time. `gaps` are known from the start: members or tools that are not here.

        Raises ModelUnavailable where no model answers, BudgetExceeded where the tenant's day is spent.
        """
        joined: Joined | None = None
        for depth in range(1, self.limits.depth + 1):
            plan = await self._plan(depth, joined)
            if not plan.tasks:
                break
            self.progress.planned(plan.tasks, self._planned_by)
            await self._work(plan.tasks)
            self._refuse_when_down()
            joined = await self._join(joined, depth)
            if not (joined.asks_more and self._another_round()):
                break
        if joined is None:
            joined = side_by_side((), None, "no sub-question could be asked.")
        rounds = max((one.task.depth for one in self._done.values()), default=0)
        notes = [*self._notes, *(note for one in self.done for note in one.notes)]
        return Outcome(with_notes(joined, notes, gaps), self.done, self._planned_by, rounds)

    @property
    def done(self) -> tuple[Done, ...]:
        return tuple(self._done[number] for number in sorted(self._done))

    @property
    def _tasks_left(self) -> int:
        return self.limits.tasks - len(self._done)

    def _another_round(self) -> bool:
        return self._tasks_left > 0 and self.purse.another_round() and self.time.another_round()

    async def _plan(self, depth: int, joined: Joined | None) -> CheckedPlan:
        """The checked plan of a round; in the first one every member is asked where there is none."""
        share, until = self.purse.planning(), self.time.planning()
        gaps = () if joined is None else joined.missing
        work = Help(self.done, share, self.time.told(until), self._tasks_left, gaps)
        try:
            proposed = await self._within(self.crew.plan(work), until, share)
        except Exception as error:
            if depth == 1 and _hopeless(error):
                raise
            return self._unplanned(depth, _reason(error))
        if depth > 1 and not proposed.tasks:
            return CheckedPlan((), ())
        known = [one.task for one in self.done]
        plan = checked_plan(proposed, self.crew.members, depth=depth, most=self._tasks_left, known=known)
        self._notes += plan.notes
        return plan if plan.tasks else self._unplanned(depth, "it holds no sub-question that can be asked.")

    def _unplanned(self, depth: int, why: str) -> CheckedPlan:
        if depth > 1:
            self._notes.append(f"There was no further round: {why}")
            return CheckedPlan((), ())
        self._planned_by = "rule"
        plan = fallback(self.question, self.crew.members, most=self._tasks_left)
        self._notes += [f"Every member was asked the question itself, for there was no plan: {why}", *plan.notes]
        return plan

    async def _work(self, tasks: Sequence[PlannedTask]) -> None:
        """Every task to its end; one begins when those that it needs have ended."""
        slots = asyncio.Semaphore(self.limits.parallel)
        endings = {task.number: asyncio.Event() for task in tasks}
        chains = _chains(tasks)
        waiting = {task.number for task in tasks}

        async def one(task: PlannedTask) -> None:
            for number in task.after:
                if number in endings:
                    await endings[number].wait()
            async with slots:
                parts = max(chains[task.number], -(-len(waiting) // self.limits.parallel))
                share = self.purse.share(len(waiting))
                waiting.discard(task.number)
                done = await self._one(task, share, self.time.working(parts))
            self._done[task.number] = done
            endings[task.number].set()
            self.progress.ended(done)

        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(one(task))

    async def _one(self, task: PlannedTask, share: Share, until: float) -> Done:
        """The task's end, whatever happens."""
        needed = [self._done[number] for number in task.after if number in self._done]
        refused = self._refused(task, needed, until)
        if refused is not None:
            self.purse.settle(share, ended=True)
            return refused
        self.progress.started(task)
        began = self.time.now()
        answered = [one for one in needed if one.answered]
        with spans.span(names.TEAM_MEMBER, {names.MEMBER: task.member, names.TASK: str(task.number)}) as span:
            try:
                work = Help(tuple(answered), share, self.time.told(until))
                done = await self._within(self.crew.answer(task, work), until, share)
            except Exception as error:
                done = _failed(task, error)
            span.set_attribute(names.TASK_STATE, done.state.value)
        spent = (self.time.now() - began) * 1000
        return replace(done, tokens=share.tally.tokens, cost_micros=share.tally.cost_micros, duration_ms=spent)

    def _refused(self, task: PlannedTask, needed: Sequence[Done], until: float) -> Done | None:
        """The end of a task that does not begin; None where it does."""
        if self.crew.stopped():
            return Done(task, TaskState.REFUSED, problem="The teams were switched off.")
        if needed and not any(one.answered for one in needed):
            numbers = ", ".join(str(one.task.number) for one in needed)
            return Done(task, TaskState.SKIPPED, problem=f"What it needs was not answered: sub-question {numbers}.")
        if until - self.time.now() < _LEAST_S:
            return Done(task, TaskState.SKIPPED, problem="There was no time left.")
        return None

    def _refuse_when_down(self) -> None:
        """An answer that says nothing but that no model answers is none."""
        if self._done and all(one.down for one in self._done.values()):
            raise ModelUnavailable("No model answered any of the team's members: ask again later.", retry_after=5)

    async def _join(self, before: Joined | None, depth: int) -> Joined:
        """One answer of all tasks; by rule where no joiner gives one in time."""
        if not any(one.answered for one in self._done.values()):
            return side_by_side(self.done, None, "no member came to an answer.")
        if before is not None and not any(one.answered and one.task.depth == depth for one in self._done.values()):
            same = replace(before, asks_more=False)
            return with_notes(same, ["The further round brought nothing new."], unanswered(self.done))
        last = depth == self.limits.depth
        share, until = self.purse.joining(last=last), self.time.joining(last=last)
        try:
            work = Help(self.done, share, self.time.told(until))
            answer, model = await self._within(self.crew.join(work), until, share)
            return checked(answer, self.done, self.question, model)
        except Exception as error:
            return side_by_side(self.done, before, _reason(error))

    async def _within(self, work: Coroutine[Any, Any, Result], until: float, share: Share) -> Result:
        """What the work gives; raises DeadlineExceeded at `until`, also where the work does not heed it."""
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task}, timeout=max(0.0, until - self.time.now()))
        finally:
            ended = task.done() and not task.cancelled() and not isinstance(task.exception(), DeadlineExceeded)
            self.purse.settle(share, ended=ended)
            if not task.done():
                self._abandon(task)
        if not task.done() or task.cancelled():
            raise DeadlineExceeded("It did not answer in its part of the time.")
        return task.result()

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        task.cancel()
        self.abandoned.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # seen, so that nobody complains of it


def _chains(tasks: Sequence[PlannedTask]) -> Mapping[int, int]:
    """For each task, how many come one after the other from it on: itself and those that wait for it."""
    longest: dict[int, int] = {}
    for task in reversed(tasks):
        longest[task.number] = 1 + max((longest[one.number] for one in tasks if task.number in one.after), default=0)
    return longest


def _hopeless(error: Exception) -> bool:
    """Whether no agent of the team could do better."""
    spent = isinstance(error, BudgetExceeded) and error.extra.get("scope") == "tenant"
    return spent or isinstance(error, ModelUnavailable)


def _reason(error: Exception) -> str:
    if isinstance(error, TrellisError):
        return error.detail
    _log.error("teams.agent_failed", exc_info=error)
    return "It failed for a reason of our own; the log has it."


def _failed(task: PlannedTask, error: Exception) -> Done:
    """The task's end where its member raised."""
    if isinstance(error, DeadlineExceeded):
        return Done(task, TaskState.TIMEOUT, problem="The member did not answer in its part of the time.")
    if isinstance(error, BudgetExceeded):
        return Done(task, TaskState.REFUSED, problem=f"The budget did not allow it. {error.detail}")
    return Done(task, TaskState.FAILED, problem=_reason(error), down=isinstance(error, ModelUnavailable))
