"""A plan that a model proposed: mended, cut down, put in order; never trusted."""

from hypothesis import given
from hypothesis import strategies as st

from app.packs.teams.planner import CheckedPlan, checked, fallback
from app.packs.teams.schemas import Plan, PlannedTask, PlanTask

MEMBERS = ("activity", "tickets", "account")


def plan(*tasks: tuple[str, str, list[int]]) -> Plan:
    return Plan(tasks=[PlanTask(member=member, question=question, after=after) for member, question, after in tasks])


def check(proposed: Plan, most: int = 8, known: tuple[PlannedTask, ...] = ()) -> CheckedPlan:
    return checked(proposed, MEMBERS, depth=1 + bool(known), most=most, known=known)


def test_a_sound_plan_stays_as_it_is() -> None:
    found = check(plan(("activity", "Who?", []), ("tickets", "Why?", [1])))
    assert [(task.number, task.member, task.after) for task in found.tasks] == [
        (1, "activity", []),
        (2, "tickets", [1]),
    ]
    assert found.notes == ()


def test_a_member_whose_name_is_nearly_right_is_asked_and_an_unknown_one_is_not() -> None:
    found = check(plan(("Ticket", "Which?", []), ("astrologer", "When?", [1]), ("account", "Who?", [1, 2])))
    assert [(task.number, task.member, task.after) for task in found.tasks] == [(1, "tickets", []), (2, "account", [1])]
    assert any("astrologer" in note for note in found.notes)
    assert any("goes ahead without 2" in note for note in found.notes)


def test_a_circle_is_cut_and_the_rest_of_it_kept_in_order() -> None:
    found = check(plan(("activity", "A?", [2]), ("tickets", "B?", [1]), ("account", "C?", [3])))
    assert [(task.number, task.after) for task in found.tasks] == [(2, []), (3, []), (1, [2])]
    assert len(found.notes) == 2


def test_what_was_asked_already_or_is_too_much_is_dropped() -> None:
    found = check(
        plan(("activity", "A?", []), ("activity", " a? ", []), ("tickets", " ", []), ("account", "B?", [])), 1
    )
    assert [task.question for task in found.tasks] == ["A?"]
    assert len(found.notes) == 3


def test_a_further_round_counts_on_and_may_need_what_is_known() -> None:
    known = check(plan(("activity", "A?", []), ("tickets", "B?", []))).tasks
    found = check(plan(("activity", "a?", []), ("account", "C?", [1]), ("tickets", "D?", [4])), known=known)
    assert [(task.number, task.depth, task.after) for task in found.tasks] == [(3, 2, [1]), (4, 2, [3])]


def test_without_a_plan_each_member_is_asked_the_question_itself() -> None:
    found = fallback("Who is at risk?", MEMBERS, most=2)
    assert [(task.member, task.question, task.after) for task in found.tasks] == [
        ("activity", "Who is at risk?", []),
        ("tickets", "Who is at risk?", []),
    ]
    assert "account" in found.notes[0]


names = st.sampled_from((*MEMBERS, "Activity ", "nobody", ""))
tasks = st.tuples(names, st.sampled_from(("A?", "B?", "C?", "")), st.lists(st.integers(-1, 9), max_size=4))


@given(st.lists(tasks, max_size=9), st.integers(1, 5))
def test_whatever_is_proposed_the_plan_can_be_done_in_its_order(
    proposed: list[tuple[str, str, list[int]]], most: int
) -> None:
    found = check(plan(*proposed), most)
    seen: set[int] = set()
    for task in found.tasks:
        assert set(task.after) <= seen, "a task comes after those that it needs"
        assert task.member in MEMBERS
        seen.add(task.number)
    assert seen == set(range(1, len(seen) + 1))
    assert len(seen) <= most
