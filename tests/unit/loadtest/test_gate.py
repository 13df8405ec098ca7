"""The gate's verdict as an exit code, and what is kept of a run."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadtest import gate
from loadtest.gate import FAILED, PASSED, Refused, conclude, empty, only_logs, summary
from loadtest.results import Check, Compared, GateResult, Outcome, ScenarioResult


def result(*outcomes: Outcome, compared: tuple[Compared, ...] = ()) -> GateResult:
    checks = tuple(Check(f"check {n}", 1, 2, "s", each, "was 2 s") for n, each in enumerate(outcomes))
    scenario = ScenarioResult("average", 1.0, 0, 10, (), 3, None, (), checks, 0)
    return GateResult("small", "abc", "a machine", 3, 0, 10, {}, (scenario,), compared, ("loud neighbours",))


def concluded(found: GateResult, accepted: bool = False) -> tuple[int, list[str]]:
    lines: list[str] = []
    return conclude(found, Path("out"), accepted, lines.append), lines


def test_a_missed_threshold_is_99_and_said() -> None:
    code, lines = concluded(result(Outcome.PASSED, Outcome.FAILED, Outcome.NOT_JUDGED))
    assert code == FAILED == 99
    assert "missed: average: check 1 was 2 s" in lines
    assert lines[-1] == "gate of phase small: FAILED (out)"


def test_what_is_not_judged_fails_nothing() -> None:
    code, lines = concluded(result(Outcome.PASSED, Outcome.NOT_JUDGED))
    assert code == PASSED == 0
    assert (lines[0], lines[-1]) == ("note: loud neighbours", "gate of phase small: passed (out)")
    assert not [line for line in lines if line.startswith("missed")]


def test_a_figure_that_got_worse_is_99() -> None:
    worse = Compared("question answer p50", 1.0, 1.3, 1.3, 0.1, "s", worse=True)
    code, lines = concluded(result(Outcome.PASSED, compared=(worse,)))
    assert code == FAILED
    assert "missed: question answer p50 is 1.30 times the baseline" in lines
    assert concluded(result(Outcome.PASSED, compared=(replace(worse, worse=False),)))[0] == PASSED


def test_only_what_passed_becomes_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Path] = []
    monkeypatch.setattr(gate, "accept", lambda _result, path: kept.append(path))
    _code, lines = concluded(result(Outcome.FAILED), accepted=True)
    assert not kept
    assert "not accepted as the baseline: it did not pass." in lines
    concluded(result(Outcome.PASSED), accepted=True)
    assert [path.name for path in kept] == ["small.json"]


def test_a_line_says_how_many_thresholds_were_held_missed_and_not_judged() -> None:
    (scenario,) = result(Outcome.PASSED, Outcome.FAILED, Outcome.NOT_JUDGED, Outcome.NOT_JUDGED).scenarios
    assert summary(scenario) == "average: 0 requests, 3 dropped, thresholds: 1 held, 1 missed, 2 not judged"


def test_only_the_gates_own_folder_is_emptied(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    with pytest.raises(Refused, match="files that are not the gate's"):
        empty(tmp_path)
    (tmp_path / "gate.json").write_text("{}")
    assert list(empty(tmp_path).iterdir()) == []
    assert empty(tmp_path / "new").is_dir()


def test_of_a_house_only_logs_are_kept(tmp_path: Path) -> None:
    (tmp_path / "api" / "data").mkdir(parents=True)
    (tmp_path / "api" / "server.log").write_text("said")
    (tmp_path / "api" / "data" / "rows").write_text("many")
    (tmp_path / "api" / "link").symlink_to(tmp_path)
    only_logs(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["api", "api/server.log"]
