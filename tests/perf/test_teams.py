"""What a team costs beside its models: CPU of a question with a planner, four members with a look-up each, a joiner.

Run with `pytest tests/perf/test_teams.py --benchmark-only -s`. Times are of the CPU, of the whole process (the
database's threads too), on models and tools that answer at once. A question makes 10 model calls and 4 look-ups, and
writes its row, four tasks and two audit entries. The wall clock beside it is that of one question alone.
"""

import asyncio
import itertools
import time
from pathlib import Path
from typing import Any

from app.packs.teams.models import QuestionState
from app.packs.teams.schemas import QuestionIn, QuestionOut
from app.packs.teams.service import TeamService
from tests.perf.figures import record
from tests.support.service import running
from tests.support.teams import (
    ASKER,
    JOINER,
    PLANNER,
    Playing,
    answer,
    joint,
    looks_up,
    plan,
    reading,
    service_with,
    team,
)

QUESTIONS = 10
NAMES = ("activity", "tickets", "account", "engineering")


def model() -> Playing:
    tasks = [(name, f"What of {name}?", [] if name == "activity" else [1]) for name in NAMES]
    members = {f"teams_{name}": looks_up(name, answer(f"{name} is fine.", [f"{name}-1"])) for name in NAMES}
    return Playing({PLANNER: plan(*tasks), **members, JOINER: joint("All is fine [1].", ["1:activity-1"])})


async def asked(service: TeamService, numbers: "itertools.count[int]") -> QuestionOut:
    """Each question is a new one: no reply comes from a cache."""
    for _ in range(QUESTIONS):
        found = await service.ask(ASKER, "crew", QuestionIn(question=f"How is client {next(numbers)} doing?"))
    return found


def test_a_question_to_four_members(benchmark: Any, tmp_path: Path) -> None:
    tools = [reading(name, [{"id": f"{name}-row", "text": "All is fine."}] * 20) for name in NAMES]
    teams, numbers = team({name: [name] for name in NAMES}), itertools.count()
    benchmark._timer = time.process_time
    with asyncio.Runner() as runner:
        house = running(tmp_path, knowledge=False, worker=False)
        container = runner.run(house.__aenter__()).container
        try:
            service = runner.run(service_with(container, model(), teams, tools))
            found = benchmark.pedantic(lambda: runner.run(asked(service, numbers)), rounds=8, warmup_rounds=2)
        finally:
            runner.run(house.__aexit__(None, None, None))
    assert (found.state, len(found.tasks)) == (QuestionState.DONE, 4)
    cpu = benchmark.stats.stats.median / QUESTIONS * 1000
    record("team_question", cpu_ms=cpu, wall_ms=found.duration_ms)
