"""Runs plans in parallel, each after those that it names."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from graphlib import CycleError, TopologicalSorter

from app.agent.models import KEY_LENGTH
from app.agent.tools.base import OutcomeState, ToolCallPlan, ToolOutcome
from app.errors import InvalidInput

Run = Callable[[ToolCallPlan], Awaitable[ToolOutcome]]
Skip = Callable[[ToolCallPlan, str], ToolOutcome]


def check_plans(plans: Sequence[ToolCallPlan]) -> None:
    """Raises InvalidInput for a key that is empty, too long or used twice, an unknown `after`, or a circle."""
    keys: set[str] = set()
    for plan in plans:
        if not 1 <= len(plan.key) <= KEY_LENGTH:
            raise InvalidInput(f"A planned call of '{plan.tool}' needs a key of 1 to {KEY_LENGTH} characters.")
        if plan.key in keys:
            raise InvalidInput(f"The key '{plan.key}' is planned twice: give each call a key of its own.")
        keys.add(plan.key)
    for plan in plans:
        for before in plan.after:
            if before not in keys:
                raise InvalidInput(f"'{plan.key}' comes after '{before}', which is not among the planned calls.")
    try:
        TopologicalSorter({plan.key: plan.after for plan in plans}).prepare()
    except CycleError as error:
        raise InvalidInput(f"The planned calls wait for each other: {' -> '.join(error.args[1])}.") from None


async def run_in_order(plans: Sequence[ToolCallPlan], run: Run, skip: Skip) -> list[ToolOutcome]:
    """The outcomes in the order of the (checked) plans.

    A plan starts when all that it comes after are done; where one of them did not end as done, it is skipped.
    """
    if len(plans) == 1:
        return [await run(plans[0])]
    tasks: dict[str, asyncio.Task[ToolOutcome]] = {}

    async def follow(plan: ToolCallPlan) -> ToolOutcome:
        for before in plan.after:
            outcome = await tasks[before]
            if outcome.state is not OutcomeState.DONE:
                return skip(plan, f"'{outcome.tool}' comes first and is {outcome.state.value.replace('_', ' ')}.")
        return await run(plan)

    async with asyncio.TaskGroup() as group:
        # Every task is in the table before the first of them runs: creating one does not run it.
        for plan in plans:
            tasks[plan.key] = group.create_task(follow(plan))
    return [tasks[plan.key].result() for plan in plans]
