"""The workflows run what a laptop runs, with no more rights than that takes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONS = sorted((ROOT / ".github" / "actions").glob("*/action.yml"))
TARGETS = frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
VARIABLES = frozenset(re.findall(r"\b([A-Z]+)=", (ROOT / "Makefile").read_text()))
"""Those that the Makefile's own help names, with what it sets."""
MAKE = re.compile(
    r"^make(?: --no-print-directory)? ([a-z-]+)((?: [A-Z]+=(?:\"[^\"]*\"|\S+))*)(?: \| tee [a-z]+\.txt)?$"
)
PAGE = "GITHUB_STEP_SUMMARY"
"""What a target printed is copied to the run's page."""
TAKEN = "cp dist/trace/"
WRITES = frozenset({"write", "write-all"})
by_name = {"ids": lambda path: path.stem if path.stem != "action" else path.parent.name}


def read(path: Path) -> dict[str, Any]:
    """YAML 1.1 reads the key `on` as true."""
    found: dict[Any, Any] = yaml.safe_load(path.read_text())
    return {("on" if key is True else key): value for key, value in found.items()}


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(path)["jobs"]
    return found


def steps(path: Path) -> Iterator[dict[str, Any]]:
    if path in ACTIONS:
        yield from read(path)["runs"]["steps"]
        return
    for job in jobs(path).values():
        yield from job["steps"]


def lines(path: Path) -> list[str]:
    """What is run, whole where a shell's own words hold several lines together."""
    return [step["run"].strip() for step in steps(path) if "run" in step]


def test_there_are_the_workflows_that_the_readme_names() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "gate", "nightly", "plan"]


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], **by_name)
def test_only_targets_of_the_makefile_are_run(path: Path) -> None:
    for line in lines(path):
        if line.startswith(TAKEN) or (PAGE in line and "make" not in line):
            continue
        found = MAKE.match(line)
        assert found, f"{path.name} runs '{line}', which is no target"
        assert found[1] in TARGETS, f"{path.name}: make {found[1]} does not exist"
        unknown = set(re.findall(r"([A-Z]+)=", found[2])) - VARIABLES
        assert not unknown, f"{path.name}: make {found[1]} knows no {', '.join(unknown)}"


@pytest.mark.parametrize("path", WORKFLOWS, **by_name)
def test_a_workflow_may_only_read_and_a_job_asks_for_nothing_more(path: Path) -> None:
    assert read(path)["permissions"] == {"contents": "read"}
    for name, job in jobs(path).items():
        asked = job.get("permissions", {})
        assert not set(asked.values()) & WRITES if isinstance(asked, dict) else asked not in WRITES, name


@pytest.mark.parametrize("path", WORKFLOWS, **by_name)
def test_every_job_ends_in_time_and_a_newer_run_knows_of_the_older(path: Path) -> None:
    assert {"group", "cancel-in-progress"} <= set(read(path)["concurrency"])
    assert all(5 <= job["timeout-minutes"] <= 120 for job in jobs(path).values())
    assert all(re.fullmatch(r"ubuntu-\d\d\.\d\d", job["runs-on"]) for job in jobs(path).values())


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], **by_name)
def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it(path: Path) -> None:
    used = re.findall(r"uses: *(\S+)(.*)", path.read_text())
    assert used
    for name, rest in used:
        if name.startswith("./"):
            assert (ROOT / name / "action.yml").is_file(), name
            continue
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", name), name
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", rest), f"{name}{rest}"


def test_one_action_has_one_version_everywhere() -> None:
    used = {use for path in [*WORKFLOWS, *ACTIONS] for use in re.findall(r"uses: *([\w./-]+@\S+)", path.read_text())}
    names = [use.partition("@")[0] for use in used]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], **by_name)
def test_no_secret_is_used_and_nothing_that_a_stranger_writes_reaches_a_shell(path: Path) -> None:
    text = path.read_text()
    assert "secrets." not in text
    assert "github.token" not in text
    assert "pull_request_target" not in text
    assert not [line for line in lines(path) if "${{" in line], "an expression belongs into env"
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, **by_name)
def test_what_a_pipe_ends_with_is_what_the_target_ended_with(path: Path) -> None:
    """`shell: bash` is run with pipefail; the default is not."""
    assert read(path)["defaults"]["run"]["shell"] == "bash"


def test_a_pull_request_is_linted_tested_planned_and_gated() -> None:
    run = {
        target
        for path in WORKFLOWS
        if "pull_request" in read(path)["on"]
        for line in lines(path)
        for target in re.findall(r"make(?: --no-print-directory)? ([a-z-]+)", line)
    }
    assert {"lint", "test", "plan", "policy", "gate", "gate-self-test"} <= run


def test_the_night_runs_what_takes_long() -> None:
    nightly = next(path for path in WORKFLOWS if path.stem == "nightly")
    text = "\n".join(lines(nightly))
    assert read(nightly)["on"]["schedule"]
    for target in ("capacity", "drill CI=1", "chaos", "bench", "gate"):
        assert f"make {target}" in text
    scenarios = {each["scenario"] for each in jobs(nightly)["load"]["strategy"]["matrix"]["include"]}
    assert "soak" in scenarios
    assert "SCENARIO=replay" in text


@pytest.mark.parametrize("path", WORKFLOWS, **by_name)
def test_what_a_gate_found_is_kept_whatever_it_found(path: Path) -> None:
    for name, job in jobs(path).items():
        text = str(job["steps"])
        if re.search(r"make(?: --no-print-directory)? gate ", text):
            kept = [step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact@")]
            assert [step["if"] for step in kept] == ["always()"], name
            assert kept[0]["with"]["path"] in text
