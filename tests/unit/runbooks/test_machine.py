"""What stands for kubectl where there is no cluster does what the pages mean, and refuses the rest."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from runbooks.drill.machine import NotStoodForError, changes, command_in_pod
from runbooks.drill.stages.service import Service, controlled

ONE = {"TRELLIS_MODEL_NAME": "first", "TRELLIS_PORT": "1"}


class Process:
    """A server that only remembers with which settings it was started."""

    def __init__(self, home: Path, settings: Mapping[str, str], ready: bool = True) -> None:
        self.home, self.settings, self.ready, self.ended = home, dict(settings), ready, False

    def terminate(self) -> None:
        self.ended = True

    def wait_ready(self) -> None:
        assert self.ready, "the server was not ready in time"

    def __exit__(self, *_: object) -> None:
        self.ended = True


class Cluster:
    """The stand-in before one such process; `run` is a call of it."""

    def __init__(self, home: Path) -> None:
        self.started: list[Process] = []
        self.home, self.ready = home, True
        self.service = Service(self.start(ONE), ONE, self.start)  # type: ignore[arg-type]
        self.command: tuple[str, ...] = ()

    def start(self, settings: Mapping[str, str]) -> Process:
        self.started.append(Process(self.home, settings, self.ready))
        return self.started[-1]

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*self.command, *arguments, stdout=pipe, stderr=pipe)
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    found = Cluster(tmp_path)
    async with controlled(found.service) as command:
        found.command = tuple(command)
        yield found
    assert found.started[-1].ended


async def test_a_command_in_a_pod_runs_here_with_the_services_settings(cluster):
    told = "import os; print(os.environ['TRELLIS_MODEL_NAME'])"
    code, out, _err = await cluster.run("-n", "trellis", "exec", "deploy/worker", "--", sys.executable, "-c", told)
    assert (code, out) == (0, "first\n")


async def test_settings_that_are_set_are_a_new_process_and_undone_the_former_one(cluster):
    names = ("deploy/api-blue", "deploy/worker", "TRELLIS_MODEL_NAME=second=2", "TRELLIS_PORT-")
    assert (await cluster.run("-n", "trellis", "set", "env", *names))[0] == 0
    assert cluster.started[-1].settings == {"TRELLIS_MODEL_NAME": "second=2"}
    assert cluster.started[0].ended
    assert (await cluster.run("-n", "trellis", "rollout", "undo", "deploy/api-blue"))[0] == 0
    assert cluster.started[-1].settings == ONE
    assert len(cluster.started) == 3


async def test_the_log_is_the_services_own(cluster):
    (cluster.home / "server.log").write_text("a line\n")
    assert (await cluster.run("-n", "trellis", "logs", "deploy/api-blue", "--since=10m"))[1] == "a line\n"


async def test_a_process_that_does_not_come_up_and_nothing_to_undo_are_errors(cluster):
    nothing = await cluster.run("-n", "trellis", "rollout", "undo", "deploy/api-blue")
    assert (nothing[0], nothing[2]) == (2, "nothing was rolled out that could be undone\n")
    cluster.ready = False
    late = await cluster.run("-n", "trellis", "rollout", "restart", "deploy/api-blue")
    assert late[0] == 2
    assert "not ready in time" in late[2]


async def test_what_needs_a_cluster_is_refused_by_name(cluster):
    code, _out, err = await cluster.run("-n", "trellis", "get", "pods")
    assert (code, err) == (2, "no cluster is on this stage for `kubectl get pods`\n")


@pytest.mark.parametrize("arguments", [["deploy/worker"], ["deploy/worker", "--"]])
def test_exec_needs_a_command(arguments: list[str]):
    with pytest.raises(NotStoodForError):
        command_in_pod(arguments)


def test_set_env_needs_something_to_set():
    with pytest.raises(NotStoodForError):
        changes(["deploy/worker"])
