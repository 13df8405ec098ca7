"""The gate as a developer and CI meet it: it tries itself, a short real run, an interruption, what it refuses."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtest.gate import NOT_RUN
from loadtest.house.processes import families
from loadtest.results import GateResult, Outcome, read
from tests.support.processes import ended, wait_until
from tests.support.server import ROOT

WAIT_S = 600
"""A house starts in 20 seconds, and in minutes where the machine has much else to do."""


@contextmanager
def gate(*arguments: object, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Interrupted at the end of the block if it still runs, so that its servers end with it."""
    command = [sys.executable, "-m", "loadtest.gate", *map(str, arguments)]
    kept = {"env": os.environ | variables, "cwd": ROOT, "text": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kept) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.communicate()


def said(*arguments: object, **variables: str) -> tuple[int, str, str]:
    """The exit code of a whole run, and what it printed."""
    with gate(*arguments, **variables) as process:
        out, errors = process.communicate(timeout=WAIT_S)
        return process.returncode, out, errors


def until_said(process: subprocess.Popen[str], beginning: str) -> list[str]:
    """What it printed up to a line that begins so."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith(beginning):
            return lines
    raise AssertionError(f"it ended without '{beginning}': {lines} {process.communicate()[1]}")


@pytest.mark.timeout(600)
def test_the_gate_passes_what_is_healthy_and_stops_what_is_slower_or_fails() -> None:
    command = [sys.executable, "-m", "loadtest.self_test"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)
    rows = {line[:14].strip(): line.split() for line in found.stdout.splitlines()}
    assert found.returncode == 0, found.stdout + found.stderr
    assert rows["healthy"][2] == "0"
    assert "answer p50 is 1." in " ".join(rows["30 % slower"])
    assert "of the baseline" not in " ".join(rows["1 % errors"])
    assert "failed was" in " ".join(rows["1 % errors"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate")


@pytest.fixture(scope="module")
def smoke(folder: Path) -> tuple[GateResult, int]:
    """A whole run of one scenario, and its exit code. What it says of times is this machine's business."""
    code, _out, errors = said("--phase", "poc", "--scenario", "smoke", "--out", folder)
    assert code in (0, 99), errors
    return read(folder / "gate.json"), code


@pytest.mark.timeout(WAIT_S + 100)
def test_a_short_run_asks_a_real_service_for_everything(smoke: tuple[GateResult, int], folder: Path) -> None:
    result, code = smoke
    (scenario,) = result.scenarios
    assert code == (0 if result.passed else 99)
    assert scenario.errors == {}
    assert all(each.asked for each in scenario.endpoints)
    assert scenario.model_calls > 0
    assert {"api", "k6", "model stub"} <= {part.part for part in scenario.parts}
    assert scenario.questions is not None
    assert scenario.questions.own is not None
    assert next(each for each in scenario.checks if each.name == "failed").outcome is Outcome.PASSED
    assert result.backends["database"] == "SQLite"


def test_the_first_byte_of_a_stream_is_its_first_token(smoke: tuple[GateResult, int]) -> None:
    streams = [each for each in smoke[0].scenarios[0].endpoints if each.kind.value.endswith("stream")]
    for each in streams:
        assert each.first_token is not None
        assert each.first_token.count == each.asked


def test_a_run_leaves_a_report_and_only_logs_of_its_house(smoke: tuple[GateResult, int], folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert {"report.html", "junit.xml", "gate.json", "charts.png"} <= names
    suite = ElementTree.parse(folder / "junit.xml").getroot()
    assert len(suite.findall(".//testcase")) >= len(smoke[0].scenarios[0].checks)
    kept = [path for path in (folder / "house").rglob("*") if path.is_file()]
    assert kept
    assert {path.suffix for path in kept} == {".log"}


@pytest.mark.timeout(WAIT_S + 100)
def test_an_interrupted_run_leaves_no_process_and_says_what_was_run(tmp_path: Path) -> None:
    with gate("--phase", "poc", "--scenario", "smoke,average", "--out", tmp_path) as process:
        until_said(process, "average:")
        below = [pid for pid in families([process.pid]) if pid != process.pid]
        process.send_signal(signal.SIGINT)
        out, _errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == NOT_RUN
    assert "Interrupted. Measured until then: smoke." in out
    result = read(tmp_path / "gate.json")
    assert [each.name for each in result.scenarios] == ["smoke"]
    assert result.notes[-1] == "Interrupted. Measured until then: smoke."
    assert len(below) > 2
    for pid in below:
        wait_until(ended(pid), f"process {pid} ends with the gate")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "Say which phase: make gate PHASE=small (one of poc, small, medium, multi-region)."),
        (["--phase", "large"], "There is no phase 'large': choose of poc, small, medium, multi-region."),
        (["--phase", "small", "--scenario", "strss"], "There is no scenario 'strss': choose of smoke, average"),
        (["--phase", "poc", "--scenario", "replay"], "set TRELLIS_DATA to its folder."),
    ],
)
def test_what_cannot_be_run_is_said_in_a_sentence(arguments: list[str], why: str) -> None:
    code, out, errors = said(*arguments, TRELLIS_DATA="/nowhere")
    assert code == NOT_RUN
    assert why in errors
    assert "Traceback" not in out + errors
    assert not out


def test_a_folder_of_somebody_elses_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    (tmp_path / "letter.txt").write_text("kept")
    code, _out, errors = said("--phase", "poc", "--out", tmp_path)
    assert code == NOT_RUN
    assert "holds files that are not the gate's: name another folder with OUT=." in errors
    assert (tmp_path / "letter.txt").read_text() == "kept"
