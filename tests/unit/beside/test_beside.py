"""What Prometheus is told on one machine, and what `up` says of it."""

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from app import beside
from app.beside import config, starting
from app.settings import Settings
from infra.phases import PhaseName
from tests.support.processes import wait_until

FILE = config.committed(PhaseName.POC).prometheus
HERE = {"trellis-api": "127.0.0.1:8400", "prometheus": "127.0.0.1:9191", "alertmanager": "127.0.0.1:9194"}


def test_what_runs_here_is_asked_where_it_is_and_nothing_else() -> None:
    found = config.prometheus(FILE, HERE, "eu")
    asked = {job["job_name"]: job["static_configs"][0]["targets"] for job in found["scrape_configs"]}
    assert asked == {job: [address] for job, address in HERE.items()}
    assert found["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["127.0.0.1:9194"]}]}]
    assert found["global"]["external_labels"] == {"phase": "poc", "region": "eu"}


def test_the_rules_of_the_phase_are_found_from_anywhere() -> None:
    (pattern,) = config.prometheus(FILE, HERE, "")["rule_files"]
    folder = Path(pattern).parent
    assert folder.is_absolute()
    assert (folder / "presence.yaml").is_file()


def test_nobody_is_told_that_what_is_not_here_is_absent() -> None:
    (silent,) = config.prometheus(FILE, HERE, "")["alerting"]["alert_relabel_configs"]
    assert "node" in silent["regex"]
    assert "trellis-api" not in silent["regex"]
    assert config.prometheus(FILE, {"trellis-api": "a:1"}, "")["alerting"] == {}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"monitoring": False}, "TRELLIS_MONITORING is off"),
        ({"phase": "small"}, "no files for phase small"),
        ({"home": Path("/proc/nowhere")}, "cannot be used"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(
    settings: dict[str, object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "_which", lambda _names: sys.executable)
    (line,) = starting.start(Settings(**{"home": tmp_path, **settings}), 0).lines()
    assert said in line.text


def test_a_program_that_does_not_answer_is_said_with_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "READY_S", 0.0)
    first, second = beside.Beside(tmp_path, {"prometheus": "127.0.0.1:1"}).lines()
    assert first.text.startswith("does not answer, so no alert is checked")
    assert "alerts are seen in Prometheus only" in second.text


def test_without_the_programs_it_is_said_what_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "_which", lambda _names: None)
    first, second = starting.start(Settings(home=tmp_path), 0).lines()
    assert first.text == "not started: no prometheus on the path, so no alert is checked and no graph is kept"
    assert second.text == "not started: no alertmanager on the path, so alerts are seen in Prometheus only"


@pytest.mark.parametrize("end", ["the server ended", "it was asked to", "it was killed"])
def test_the_keeper_leaves_no_program_behind(end: str, tmp_path: Path) -> None:
    if end == "it was killed" and sys.platform != "linux":
        pytest.skip("only Linux ends a program with its parent")
    marker = tmp_path / "pid"
    code = f"import os, time; open({str(marker)!r}, 'w').write(str(os.getpid())); time.sleep(300)"
    programs = tmp_path / "programs.json"
    programs.write_bytes(orjson.dumps([{"command": [sys.executable, "-c", code], "log": str(tmp_path / "log")}]))
    ends, held = os.pipe()
    keeper = subprocess.Popen([sys.executable, "-m", "app.beside.keeper", str(ends), str(programs)], pass_fds=(ends,))
    os.close(ends)
    wait_until(lambda: marker.exists() and marker.read_text() != "", "the program runs")
    pid = int(marker.read_text())
    if end == "it was asked to":
        keeper.terminate()
    elif end == "it was killed":
        keeper.kill()
    else:
        os.close(held)
    keeper.wait(20)
    wait_until(lambda: not runs(pid), "the program has ended")


def runs(pid: int) -> bool:
    """Also for one that nobody has asked for its end yet."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and b") Z " not in stat.read_bytes()


def test_the_address_of_the_prometheus_beside_is_known_while_it_runs(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert beside.prometheus_address(settings) is None
    folder = tmp_path / "monitoring"
    folder.mkdir()
    command = ["prometheus", "--web.listen-address=127.0.0.1:9191"]
    (folder / "programs.json").write_bytes(orjson.dumps([{"command": command, "log": str(folder / "prometheus.log")}]))
    # Known by its command line, as the keeper is.
    keeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "app.beside.keeper"])
    try:
        (folder / "keeper.pid").write_text(str(keeper.pid))
        wait_until(lambda: beside.prometheus_address(settings) is not None, "the keeper's command line", 10)
        assert beside.prometheus_address(settings) == "http://127.0.0.1:9191"
        (folder / "programs.json").write_text("[]")
        assert beside.prometheus_address(settings) is None
    finally:
        keeper.kill()
        keeper.wait()
    assert beside.prometheus_address(settings) is None
