"""Plans: what a model proposed, held to what can be done; and the plan that needs no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from app.packs.teams.schemas import MAX_PART, Plan, PlannedTask

_NEAR: Final = 0.75
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class CheckedPlan:
    """Tasks in an order in which each comes after those that it needs. `notes` say what was put right."""

    tasks: tuple[PlannedTask, ...]
    notes: tuple[str, ...]


def checked(plan: Plan, members: Sequence[str], *, depth: int, most: int, known: Sequence[PlannedTask]) -> CheckedPlan:
    """The plan's tasks that can be done, numbered on from those of earlier rounds (`known`), as `after` counts them.

    A member whose name is nearly right is that member. Dropped, with a note: tasks of unknown members, without a
    question, asked already, and those beyond `most`. A need that leads to nothing or in a circle is dropped too.
    """
    notes: list[str] = []
    first = len(known) + 1
    asked = {(task.member, _same(task.question)) for task in known}
    # From the number that the planner counts to the one that the task gets.
    numbers: dict[int, int] = {}
    kept: list[PlannedTask] = []
    for place, wanted in enumerate(plan.tasks, 1):
        question = wanted.question.strip()[:MAX_PART]
        member = _member(wanted.member, members)
        problem = _problem(member, question, asked, full=len(kept) >= most)
        if problem or member is None:
            notes.append(f"Dropped sub-question {place} of the plan ('{wanted.member[:_SHOWN]}'): {problem}.")
            continue
        asked.add((member, _same(question)))
        number = numbers[len(known) + place] = first + len(kept)
        kept.append(PlannedTask(number=number, depth=depth, member=member, question=question, after=wanted.after))
    return CheckedPlan(*_ordered(kept, numbers, notes, {task.number for task in known}))


def fallback(question: str, members: Sequence[str], *, most: int) -> CheckedPlan:
    """Every member is asked the question itself."""
    tasks = tuple(
        PlannedTask(number=number, depth=1, member=member, question=question[:MAX_PART], after=[])
        for number, member in enumerate(members[:most], 1)
    )
    left_out = members[most:]
    notes = (f"There was no room to ask {', '.join(left_out)}.",) if left_out else ()
    return CheckedPlan(tasks, notes)


def _member(wanted: str, members: Sequence[str]) -> str | None:
    name = wanted.strip().lower().replace(" ", "_").replace("-", "_")
    return name if name in members else next(iter(get_close_matches(name, members, n=1, cutoff=_NEAR)), None)


def _problem(member: str | None, question: str, asked: set[tuple[str, str]], *, full: bool) -> str:
    if member is None:
        return "the team has no such member here"
    if not question:
        return "it asks nothing"
    if (member, _same(question)) in asked:
        return "it was asked already"
    return "there are more than the question may have" if full else ""


def _same(question: str) -> str:
    return " ".join(question.lower().split())


def _ordered(
    tasks: Sequence[PlannedTask], numbers: Mapping[int, int], notes: list[str], known: set[int]
) -> tuple[tuple[PlannedTask, ...], tuple[str, ...]]:
    """The tasks with their needs as numbers of ours, in an order that keeps them."""
    needs: dict[int, list[int]] = {}
    for task in tasks:
        needs[task.number] = []
        for wanted in dict.fromkeys(task.after):
            need = numbers.get(wanted, wanted if wanted in known else None)
            if need is None or _leads_to(need, task.number, needs):
                notes.append(f"Sub-question {task.number} goes ahead without {wanted}, which cannot come before it.")
            else:
                needs[task.number].append(need)
    placed: list[PlannedTask] = []
    waiting = [task.model_copy(update={"after": needs[task.number]}) for task in tasks]
    while waiting:
        open_numbers = {task.number for task in waiting}
        placed += [task for task in waiting if not open_numbers & set(task.after)]
        done = {task.number for task in placed}
        waiting = [task for task in waiting if task.number not in done]
    return tuple(placed), tuple(notes)


def _leads_to(start: int, goal: int, needs: Mapping[int, Sequence[int]]) -> bool:
    """Whether the task `start` needs `goal`, by any number of steps."""
    seen, waiting = set(), [start]
    while waiting:
        number = waiting.pop()
        if number == goal:
            return True
        if number not in seen:
            seen.add(number)
            waiting += needs.get(number, ())
    return False
