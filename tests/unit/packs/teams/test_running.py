"""One question to a team whose members do as they please: the answer comes in time, within budget, and is honest."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.agent.routing import DeadlineExceeded, ModelUnavailable
from app.agent.steps import AgentFailed
from app.errors import BudgetExceeded
from app.packs.teams.joining import Done
from app.packs.teams.limits import Limits
from app.packs.teams.models import TaskState
from app.packs.teams.running import Help, Outcome, Progress, TeamRun
from app.packs.teams.schemas import Evidence, JointAnswer, JointGap, Plan, PlannedTask, PlanTask
from tests.support.examples import examples
from tests.support.virtual_time import run_at_once

MEMBERS = ("activity", "tickets", "account")
Act = Callable[[Help], Awaitable[Any]]


def spend(work: Help, share: float) -> None:
    """Uses a part of what the agent has, as the router lets it: never more."""
    work.share.tally.tokens += int(work.share.tokens * share)
    work.share.tally.cost_micros += int(work.share.cost_micros * share)


@dataclass
class Actors:
    """A crew that follows a script: by round for planner and joiner, by member for members."""

    plans: Sequence[Act]
    joins: Sequence[Act]
    acts: dict[str, Act] = field(default_factory=dict)
    asked: list[tuple[PlannedTask, Help]] = field(default_factory=list)
    joined: list[Help] = field(default_factory=list)
    planned: list[Help] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    off: bool = False
    members: Sequence[str] = MEMBERS

    async def plan(self, work: Help) -> Plan:
        self.planned.append(work)
        found: Plan = await self.plans[min(len(self.planned), len(self.plans)) - 1](work)
        return found

    async def answer(self, task: PlannedTask, work: Help) -> Done:
        self.asked.append((task, work))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.acts.get(task.member, says())(work)
        finally:
            self.at_once -= 1
        evidence = Evidence(id=f"{task.number}:x", task=task.number, member=task.member, tool="t", title="", quote="q")
        return Done(task, TaskState.DONE, f"{task.member} knows", (evidence,))

    async def join(self, work: Help) -> tuple[JointAnswer, str]:
        self.joined.append(work)
        answer: JointAnswer = await self.joins[min(len(self.joined), len(self.joins)) - 1](work)
        return answer, "script-1"

    def stopped(self) -> bool:
        return self.off


def says(value: Any = None, *, after: float = 0.0, share: float = 0.1) -> Act:
    async def act(work: Help) -> Any:
        await asyncio.sleep(after)
        spend(work, share)
        return value

    return act


def raises(error: Exception, share: float = 0.1) -> Act:
    async def act(work: Help) -> Any:
        spend(work, share)
        raise error

    return act


async def hangs(_work: Help) -> Any:
    await asyncio.Event().wait()


async def hangs_on(_work: Help) -> Any:
    """Does not heed being told to end, for a while."""
    for _ in range(3):
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            continue


def planned(*tasks: tuple[str, str, list[int]]) -> Act:
    return says(Plan(tasks=[PlanTask(member=m, question=q, after=a) for m, q, a in tasks]))


def joint(text: str = "All is well [1].", missing: Sequence[str] = (), evidence: Sequence[str] = ("1:x",)) -> Act:
    gaps = [JointGap(what=what, why="nobody said") for what in missing]
    return says(JointAnswer(answer=text, evidence=list(evidence), missing=gaps))


TWO = planned(("activity", "A?", []), ("tickets", "B?", []))


@dataclass
class Ran:
    outcome: Outcome
    run: TeamRun
    seconds: float


def ask(crew: Actors, progress: Progress | None = None, **limits: Any) -> Ran:
    async def work() -> Ran:
        loop = asyncio.get_running_loop()
        run = TeamRun(crew, "Who is at risk?", Limits(**limits), set(), progress or Progress())
        began = loop.time()
        outcome = await run.run()
        return Ran(outcome, run, loop.time() - began)

    with capture_logs():  # a trace of each is a second of printing
        return run_at_once(work())


def states(ran: Ran) -> dict[str, TaskState]:
    return {one.task.member: one.state for one in ran.outcome.done}


def test_independent_questions_run_at_the_same_time_and_dependent_ones_get_the_answers() -> None:
    crew = Actors(
        [planned(("activity", "A?", []), ("tickets", "B?", []), ("account", "C?", [1, 2]))],
        [joint()],
        {name: says(after=3) for name in MEMBERS},
    )
    ran = ask(crew)
    assert ran.seconds == pytest.approx(6), "two steps, not three"
    assert crew.most_at_once == 2
    (_, work) = next(pair for pair in crew.asked if pair[0].member == "account")
    assert [one.answer for one in work.done] == ["activity knows", "tickets knows"]
    assert ran.outcome.joined.by == "model"
    assert [row.id for row in ran.outcome.joined.evidence] == ["1:x"]


def test_no_more_members_work_at_once_than_the_limits_allow() -> None:
    tasks = [(MEMBERS[n % 3], f"{n}?", []) for n in range(6)]
    crew = Actors([planned(*tasks)], [joint()], {name: says(after=1) for name in MEMBERS})
    ran = ask(crew, parallel=2)
    assert crew.most_at_once == 2
    assert len(ran.outcome.done) == 6


def test_what_happens_is_told_as_it_happens() -> None:
    told: list[str] = []
    progress = Progress(
        lambda tasks, by: told.append(f"{len(tasks)} by {by}"),
        lambda task: told.append(f"started {task.number}"),
        lambda done: told.append(f"ended {done.task.number} {done.state}"),
    )
    ask(Actors([TWO], [joint()], {"activity": says(after=2)}), progress)
    assert told == ["2 by model", "started 1", "started 2", "ended 2 done", "ended 1 done"]


@pytest.mark.parametrize("hanging", [hangs, hangs_on])
def test_a_member_that_hangs_is_given_up_and_the_answer_says_so(hanging: Act) -> None:
    crew = Actors([TWO], [joint()], {"activity": hanging})
    ran = ask(crew, seconds=60, depth=1)
    assert states(ran) == {"activity": TaskState.TIMEOUT, "tickets": TaskState.DONE}
    assert ran.seconds <= 60
    assert ran.outcome.joined.by == "model", "time is kept for joining"
    assert [(gap.what, gap.member) for gap in ran.outcome.joined.missing] == [("A?", "activity")]


def test_a_member_that_hangs_leaves_time_for_the_one_that_waits_for_another() -> None:
    tasks = planned(("activity", "A?", []), ("tickets", "B?", []), ("account", "C?", [1, 2]))
    ran = ask(Actors([tasks], [joint()], {"activity": hangs}), seconds=60)
    assert states(ran) == {"activity": TaskState.TIMEOUT, "tickets": TaskState.DONE, "account": TaskState.DONE}


def test_who_needs_nothing_but_failures_does_not_begin() -> None:
    tasks = planned(("activity", "A?", []), ("tickets", "B?", [1]), ("account", "C?", [2]))
    crew = Actors([tasks], [joint()], {"activity": raises(AgentFailed("It lied about its schema."))})
    ran = ask(crew)
    assert states(ran) == {
        "activity": TaskState.FAILED,
        "tickets": TaskState.SKIPPED,
        "account": TaskState.SKIPPED,
    }
    assert len(crew.asked) == 1
    assert crew.joined == [], "there is nothing to join"
    assert "lied about its schema" in ran.outcome.joined.missing[0].why


@pytest.mark.parametrize(
    "planning",
    [
        raises(AgentFailed("No valid plan.")),
        raises(RuntimeError("a bug")),
        hangs,
        planned(),
        planned(("nobody", "A?", [])),
        raises(BudgetExceeded("Its cap.", retry_after=1, scope="request")),
    ],
)
def test_without_a_plan_every_member_is_asked_and_it_is_said(planning: Act) -> None:
    ran = ask(Actors([planning], [joint()]))
    assert ran.outcome.planned_by == "rule"
    assert states(ran) == dict.fromkeys(MEMBERS, TaskState.DONE)
    assert any("there was no plan" in note for note in ran.outcome.joined.notes)


@pytest.mark.parametrize(
    "joining", [raises(AgentFailed("No valid answer.")), raises(RuntimeError("a bug")), hangs, joint(" ")]
)
def test_without_a_joiner_the_answers_stand_side_by_side_and_it_is_said(joining: Act) -> None:
    ran = ask(Actors([TWO], [joining]), seconds=40)
    assert ran.seconds <= 40
    assert ran.outcome.joined.by == "rule"
    assert ran.outcome.joined.text == "activity: activity knows [1]\ntickets: tickets knows [2]"
    assert [row.id for row in ran.outcome.joined.evidence] == ["1:x", "2:x"]
    assert "side by side" in ran.outcome.joined.notes[0]


def test_evidence_that_nobody_found_is_removed_and_noted() -> None:
    ran = ask(Actors([TWO], [joint(evidence=("2:x", "9:made-up"))]))
    assert [row.id for row in ran.outcome.joined.evidence] == ["2:x"]
    assert any("9:made-up" in note for note in ran.outcome.joined.notes)


def test_what_is_missing_is_asked_for_once_more_and_no_further() -> None:
    again = planned(("account", "C?", [1]), ("activity", "a?", []))
    crew = Actors([TWO, again], [joint("Half [1].", ["the account"]), joint("Whole [3].", ["the weather"], ["3:x"])])
    ran = ask(crew, depth=2)
    assert [(one.task.number, one.task.depth, one.task.member) for one in ran.outcome.done][2:] == [(3, 2, "account")]
    assert [gap.what for gap in crew.planned[1].gaps] == ["the account"]
    assert (ran.outcome.joined.text, ran.outcome.rounds) == ("Whole [3].", 2)
    assert [gap.what for gap in ran.outcome.joined.missing] == ["the weather"]
    assert len(crew.planned) == len(crew.joined) == 2


def test_a_round_that_brings_nothing_leaves_the_answer_of_the_one_before() -> None:
    again = planned(("account", "C?", []))
    crew = Actors([TWO, again], [joint("Half [1].", ["the account"])], {"account": raises(AgentFailed("No."))})
    ran = ask(crew)
    assert ran.outcome.joined.text == "Half [1]."
    assert [gap.what for gap in ran.outcome.joined.missing] == ["the account", "C?"]


def test_a_joiner_that_fails_in_the_second_round_keeps_the_first_answer() -> None:
    again = planned(("account", "C?", []))
    ran = ask(Actors([TWO, again], [joint("Half [1].", ["the account"]), raises(AgentFailed("No."))]))
    assert ran.outcome.joined.text == "Half [1].\naccount: account knows [3]"
    assert ran.outcome.joined.by == "rule"


def test_no_second_round_where_money_or_time_is_short() -> None:
    for costly in ({"activity": says(share=1.0), "tickets": says(share=1.0)}, {"activity": says(after=24)}):
        crew = Actors([TWO], [joint(missing=["more"])], costly)
        ask(crew, seconds=40)
        assert len(crew.planned) == 1


def test_a_provider_that_is_down_is_said_and_no_answer() -> None:
    down = ModelUnavailable("Nobody answers.", retry_after=1)
    with pytest.raises(ModelUnavailable):
        ask(Actors([raises(down)], [joint()]))
    with pytest.raises(ModelUnavailable):
        ask(Actors([TWO], [joint()], dict.fromkeys(MEMBERS, raises(down))))
    with pytest.raises(BudgetExceeded):
        ask(Actors([raises(BudgetExceeded("The day.", retry_after=1, scope="tenant"))], [joint()]))


def test_switched_off_in_the_middle_nobody_begins_any_more() -> None:
    crew = Actors([planned(("activity", "A?", []), ("tickets", "B?", [1]))], [joint()])

    async def switches(_work: Help) -> None:
        crew.off = True

    crew.acts["activity"] = switches
    assert states(ask(crew)) == {"activity": TaskState.DONE, "tickets": TaskState.REFUSED}


ERRORS = (
    AgentFailed("It lied."),
    DeadlineExceeded("Late."),
    BudgetExceeded("Its cap.", retry_after=1, scope="request"),
    ValueError("a bug"),
)
acts = st.one_of(
    st.builds(says, after=st.floats(0, 50), share=st.floats(0, 1)),
    st.sampled_from([raises(error, 1.0) for error in ERRORS]),
    st.sampled_from([hangs, hangs_on]),
)
plans = st.lists(
    st.tuples(st.sampled_from((*MEMBERS, "nobody")), st.sampled_from("ABCDE"), st.lists(st.integers(0, 7), max_size=3)),
    max_size=8,
).map(lambda tasks: planned(*tasks))
joins = st.one_of(st.just(joint(missing=["more"])), st.just(joint()), st.just(hangs), st.just(raises(ERRORS[0], 1.0)))


@given(
    st.lists(plans, min_size=1, max_size=3),
    st.lists(joins, min_size=1, max_size=3),
    st.fixed_dictionaries(dict.fromkeys(MEMBERS, acts)),
    st.fixed_dictionaries(
        {
            "depth": st.integers(1, 3),
            "tasks": st.integers(1, 6),
            "tokens": st.integers(0, 5_000),
            "cost_micros": st.integers(0, 900),
            "seconds": st.floats(1, 60),
            "parallel": st.integers(1, 4),
        }
    ),
)
@settings(max_examples=examples(200))
def test_any_question_ends_in_time_within_its_budget_with_one_end_for_each_task(
    plans: list[Act], joins: list[Act], acts: dict[str, Act], limits: dict[str, Any]
) -> None:
    begun: list[int] = []
    progress = Progress(planned=lambda tasks, _by: begun.extend(task.number for task in tasks))
    ran = ask(Actors(plans, joins, acts), progress, **limits)
    assert ran.seconds <= limits["seconds"] + 1e-6
    assert ran.run.purse.tokens <= limits["tokens"]
    assert ran.run.purse.cost_micros <= limits["cost_micros"]
    ended = [one.task.number for one in ran.outcome.done]
    assert sorted(begun) == ended == list(range(1, len(ended) + 1))
    assert len(ended) <= limits["tasks"]
    assert ran.outcome.rounds <= limits["depth"]
    assert ran.outcome.joined.text
    unanswered = {one.task.member for one in ran.outcome.done if not one.answered}
    answered = {one.task.member for one in ran.outcome.done if one.answered}
    assert unanswered - answered <= {gap.member for gap in ran.outcome.joined.missing}
