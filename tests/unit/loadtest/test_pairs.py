import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from infra.phases import PHASES
from loadtest import pairs
from loadtest.compare import compared
from loadtest.house import House
from loadtest.house.decisions import File, Server
from loadtest.pairs import PairsError, checkout, figures, orders, short
from loadtest.plan import WARM_UP_S, questions_s
from loadtest.results import EndpointResult, Kind, PartUse, ScenarioResult
from loadtest.standing import HOUSE
from tests.support.gate_results import quantiles, scenario


def git(folder: Path, *arguments: str) -> str:
    named = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
    found = subprocess.run(["git", *named, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return found.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two revisions: `old` with an older app and an older load."""
    root = tmp_path / "repository"
    for name in ("app", "loadtest", "tests"):
        (root / name).mkdir(parents=True)
    git(root, "init", "--quiet")
    for revision in ("old", "new"):
        for name in ("app", "loadtest", "tests"):
            (root / name / "__init__.py").write_text(f"# {revision}")
        (root / "uv.lock").write_text("the same")
        git(root, "add", ".")
        git(root, "commit", "--quiet", "-m", revision)
        git(root, "tag", revision)
    (root / "loadtest" / "__init__.py").write_text("# not committed")
    (root / "loadtest" / "__pycache__").mkdir()
    monkeypatch.setattr(pairs, "ROOT", root)
    return root


def test_the_other_revision_has_its_own_app_and_this_checkouts_load(repository: Path, tmp_path: Path) -> None:
    with checkout("old", tmp_path / "other") as other:
        said = {name: (other / name / "__init__.py").read_text() for name in ("app", "loadtest", "tests")}
        assert said == {"app": "# old", "loadtest": "# not committed", "tests": "# new"}
        assert not (other / "loadtest" / "__pycache__").exists()


def test_the_other_revision_is_gone_afterwards_whatever_happened(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), checkout("old", tmp_path / "other"):
        raise ZeroDivisionError
    assert not (tmp_path / "other").exists()
    assert git(repository, "worktree", "list").count("\n") == 0


@pytest.mark.parametrize("name", ["nowhere", "--help", ""])
def test_a_revision_that_is_not_there_is_named(repository: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(PairsError, match=f"no revision '{name}'"), checkout(name, tmp_path / "other"):
        pass


def test_other_packages_are_said(repository: Path) -> None:
    assert pairs._other_packages("old") == ()
    (repository / "uv.lock").write_text("another")
    assert "uv.lock is another one in old" in pairs._other_packages("old")[0]


async def test_a_house_that_does_not_start_says_why(repository: Path, tmp_path: Path) -> None:
    (repository / "loadtest" / "standing.py").write_text("raise SystemExit('no room here')")
    with pytest.raises(PairsError, match="does not start: no room here"):
        async with pairs.standing(repository, PHASES["small"], tmp_path / "side"):
            pass


@pytest.mark.parametrize("database", [Server("host=127.0.0.1 dbname=trellis"), File(Path("trellis.db"))])
def test_a_house_is_told_to_another_process_whole(database: Server | File) -> None:
    there = House(
        phase=PHASES["medium"],
        folder=Path("folder"),
        addresses=("http://127.0.0.1:1",),
        served={"api": "http://127.0.0.1:1"},
        keys=("key",),
        bot="handbook",
        filled="notes",
        known=("What?",),
        asked=("What?", "Why?"),
        model="http://127.0.0.1:2/v1",
        prometheus=None,
        backends={"relational": "SQLite"},
        notes=("None.",),
        parts={"api": (17, 18)},
        database=database,
        started_s=1.5,
    )
    assert HOUSE.validate_json(HOUSE.dump_json(there)) == there


def test_each_side_is_first_in_every_other_pair() -> None:
    assert list(orders(4)) == [(0, 1), (1, 0), (0, 1), (1, 0)]


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_a_short_run_asks_enough_in_two_minutes(phase) -> None:
    found = short(phase)
    measured = found.seconds - WARM_UP_S
    assert 30 <= measured <= 120
    assert questions_s(found.rates) * found.factor * measured >= min(200, 119 * questions_s(found.rates))
    assert found.factor == (phase.headroom or 1)


def run(slower: float = 1.0) -> ScenarioResult:
    questions = EndpointResult(Kind.QUESTION, 2_400, 0, 2_400, quantiles(0.4 * slower), own=quantiles(0.01 * slower))
    parts = (PartUse("api", 12 * slower, 0.1, 200), PartUse("PostgreSQL", 99, 0.1, 80))
    endpoints = tuple(replace(each, answer=quantiles(0.4 * slower, each.asked)) for each in scenario().endpoints)
    return scenario(questions=questions, parts=parts, endpoints=endpoints)


def test_times_processor_and_calls_are_compared() -> None:
    rows = {row.figure: row for row in compared(figures([(run(), run(1.5))] * 4))}
    assert set(rows) == {
        "chat answer p50",
        "stream answer p50",
        "stream first piece p50",
        "lead answer p50",
        "question answer p95",
        "question own share p50",
        "question own share p95",
        "processor of a request",
        "model calls of a question",
    }
    worse = {name for name, row in rows.items() if row.worse}
    assert worse == set(rows) - {"stream first piece p50", "model calls of a question"}
    assert rows["processor of a request"].now == pytest.approx(12 * 1.5 / 2_440)
    assert rows["model calls of a question"].unit == "calls"


def test_a_time_of_few_samples_is_not_compared() -> None:
    few = replace(run(), endpoints=(EndpointResult(Kind.LEAD, 19, 0, 19, quantiles(0.02, 19)),))
    assert not any(figure.name.startswith("lead") for figure in figures([(few, few)] * 4))


def test_a_figure_that_one_run_lacks_is_not_compared() -> None:
    found = figures([(run(), run()), (run(), replace(run(), questions=None)), (run(), run())])
    assert not any(figure.name.startswith("question") for figure in found)
    assert all(len(figure.pairs) == 3 for figure in found)
