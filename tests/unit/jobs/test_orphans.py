"""Which jobs are put back: those that two looks in a row find not running."""

from typing import Any, cast

from app.jobs.orphans import Orphans
from app.jobs.store import Store


class Engine:
    """What the engine's tables say."""

    def __init__(self) -> None:
        self.jobs: set[str] = set()
        self.back: list[str] = []

    def pending(self, _executor_id: str, _version: str) -> set[str]:
        return set(self.jobs)

    def put_back(self, _executor_id: str, job_ids: list[str]) -> None:
        self.back += job_ids
        self.jobs -= set(job_ids)


async def test_a_job_that_runs_or_is_about_to_is_left_alone() -> None:
    engine, running, rung = Engine(), set[str](), list[Any]()
    orphans = Orphans(cast(Store, engine), "me", "1", lambda: running, lambda: rung.append(1))
    engine.jobs = {"running", "taken", "lost"}
    running.add("running")
    await orphans.look()
    assert engine.back == []
    running.add("taken")
    await orphans.look()
    assert engine.back == ["lost"]
    assert rung == [1]
    running.discard("taken")
    await orphans.look()
    assert engine.back == ["lost"]
    await orphans.look()
    assert engine.back == ["lost", "taken"]
