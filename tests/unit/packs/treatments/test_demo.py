"""The demo's input and its figures, without a run."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from app.errors import ConfigError, InvalidInput
from app.packs.treatments.demo import add_demo
from app.packs.treatments.demo_data import Called, Scale, catalogue_of, check, write_files
from app.packs.treatments.demo_figures import gaps, judgement_of
from app.packs.treatments.demo_folder import Plan, Steps, demo_folder
from app.packs.treatments.demo_results import Told
from app.plain_console import PlainConsole
from tests.support.bank_file import bank_file

PLAN = Plan(data="abc", customers=600, judged=100)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def commands() -> typer.Typer:
    group = typer.Typer()
    group.callback()(lambda: None)
    add_demo(group, PlainConsole())
    return group


def refused(commands: typer.Typer, *arguments: str) -> str:
    found = CliRunner().invoke(commands, ["demo", *arguments])
    assert isinstance(found.exception, InvalidInput | ConfigError), found.exception
    return found.exception.detail


def test_a_missing_file_says_where_to_get_it(commands: typer.Typer, tmp_path: Path) -> None:
    said = refused(commands, "--data", str(tmp_path))
    assert "Bank Marketing" in said
    assert "TRELLIS_DATA" in said
    assert "../shared/data" in said


def test_another_file_is_refused_by_its_columns(commands: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("age,job\n1,2\n")
    assert "has no column balance" in refused(commands, "--data", str(tmp_path / "other.csv"))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00age")
    assert "cannot be read" in refused(commands, "--data", str(tmp_path / "binary.csv"))


def test_more_customers_than_the_file_has_are_refused(commands: typer.Typer, tmp_path: Path) -> None:
    path = str(bank_file(tmp_path / "calls.csv", 30))
    assert "give --customers 30" in refused(commands, "--data", path, "--customers", "31", "--judged", "5")
    assert "--judged has to be fewer" in refused(commands, "--data", path, "--customers", "30", "--judged", "30")


def test_a_row_that_is_none_of_the_banks_is_one_sentence(tmp_path: Path) -> None:
    path = bank_file(tmp_path / "calls.csv", 30)
    path.write_text(path.read_text().replace(",may,", ",mai,", 1))
    with pytest.raises(InvalidInput, match="a row that cannot be read"):
        write_files(path, Scale(30, 5), tmp_path)


def test_outcomes_of_judged_customers_are_not_written(tmp_path: Path) -> None:
    path = bank_file(tmp_path / "calls.csv", 30)
    assert check(path, 30) != check(bank_file(tmp_path / "more.csv", 31), 30)
    write_files(path, Scale(30, 10), tmp_path)
    assert len((tmp_path / "customers.jsonl").read_text().splitlines()) == 30
    assert [f"bank-{number:05}-call" in (tmp_path / "outcomes.jsonl").read_text() for number in (20, 21)] == [
        True,
        False,
    ]


def test_limits_go_with_the_number_of_customers() -> None:
    small, large = catalogue_of(Scale(4_000, 1_000)), catalogue_of(Scale(40_000, 10_000))
    calls = [catalogue.treatment("call_back").capacity_per_day for catalogue in (small, large)]
    assert calls == [20, 200]
    assert [small.budget_usd_per_day, large.budget_usd_per_day] == [250, 2_500]


def test_a_folder_is_gone_on_with_by_the_same_demo_alone(tmp_path: Path) -> None:
    with demo_folder(tmp_path / "kept", PLAN) as folder:
        Steps(folder / "home").finish("files")
        with pytest.raises(ConfigError, match="Another demo works in"), demo_folder(folder, PLAN):
            pass
    with demo_folder(tmp_path / "kept", PLAN) as folder:
        assert Steps(folder / "home").done("files")
    with (
        pytest.raises(ConfigError, match=r"of another demo \(600 customers of another file, 100"),
        demo_folder(tmp_path / "kept", PLAN.model_copy(update={"data": "xyz"})),
    ):
        pass


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other things"), demo_folder(tmp_path, PLAN):
        pass
    with pytest.raises(ConfigError, match="cannot be used"), demo_folder(tmp_path / "mine.txt", PLAN):
        pass


def test_time_without_a_worker_is_from_its_end_to_the_next_chunk() -> None:
    moments = [NOON + timedelta(seconds=second) for second in (1, 2, 10, 11)]
    ends = [NOON + timedelta(seconds=second) for second in (7, 2.5, 30)]
    assert gaps(ends, moments) == timedelta(seconds=7.5)


def test_those_called_are_compared_with_as_many_others() -> None:
    calls = {f"c{number}": Called(number % 10 == 9, 50.0 * (number % 10 == 9)) for number in range(100)}
    found = judgement_of(calls, Told(called={"c9", "c19", "c20", "unjudged"}))
    assert (found.called.customers, found.called.successes, found.called.value_usd) == (3, 2, 100 / 3)
    assert (found.first.customers, found.first.successes) == (3, 0)
    assert found.everyone.rate == 0.1
    assert found.more == pytest.approx(2 / 3 - 8 / 97)
    low, high = found.random95 or (1, 0)
    assert 0 <= low <= 0.1 <= high < 1
    assert judgement_of(calls, Told()).random95 is None
