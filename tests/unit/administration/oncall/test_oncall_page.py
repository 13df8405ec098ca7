"""What is printed: the page with values and labels, and a sentence in the place of each thing that is away."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.administration.oncall.alerts import Alert
from app.administration.oncall.command import gather, given
from app.administration.oncall.filling import variables
from app.administration.oncall.pages import find_page
from app.administration.oncall.printing import Known, Printer, queries
from app.administration.oncall.prometheus import Ran, Value, number, runs
from app.administration.oncall.state import Change, FlagState, Switches
from app.cli import cli
from app.errors import InvalidInput
from app.plain_console import PlainConsole
from runbooks.pages import SECTIONS

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)


def printed(name: str, alerts: Sequence[Alert] = (), known: Known | None = None) -> str:
    console = PlainConsole()
    console.file, console.width = StringIO(), 100  # type: ignore[misc]
    printer = Printer(console, NOW)
    known = known or Known()
    printer.around(known)
    printer.alerts(alerts or [Alert(name)])
    found = find_page(name)
    assert found.page is not None, found.why_not
    printer.page(found.page, found.text, variables(alerts) if alerts else {}, known)
    return console.file.getvalue()


def test_the_whole_page_is_there_with_the_kind_of_each_command() -> None:
    text = printed("PostgresDown")
    assert [section for section in SECTIONS if f"\n{section}\n" not in text] == []
    assert "[mutate]\n    aws rds reboot-db-instance" in text
    assert "```" not in text
    assert "To be set by you: $PHASE, $REGION." in text


def test_labels_stand_in_the_commands_quoted() -> None:
    alert = Alert("KubePodCrashLooping", {"alertname": "x", "namespace": "trellis", "pod": "a'; rm -r /; '"})
    text = printed("KubePodCrashLooping", [alert])
    assert """kubectl -n "trellis" logs ""'a'"'"'; rm -r /; '"'"''"" --previous""" in text
    assert "export NAMESPACE=trellis POD='a'" in text


def test_values_stand_below_their_queries() -> None:
    found = find_page("PostgresDown").page
    assert found is not None
    first, *_ = queries([found])
    values = {first: [Value({"instance": f"db-{n}"}, n) for n in range(12)], "pg_up == 0": []}
    text = printed("PostgresDown", known=Known(values))
    assert f"    {first}\n  = 0  instance=db-0\n  = 1  instance=db-1\n" in text
    assert "... and 2 more." in text
    assert "    pg_up == 0\n  = nothing\n" in text
    assert "  = refused" in printed("PostgresDown", known=Known({first: "refused"}))


def test_deploys_and_switches_say_when_and_who() -> None:
    ago = NOW - timedelta(minutes=30)
    flag = FlagState("kill.leads", "*", True, ago, "cli:ada\x1b[2J")
    switches = Switches([flag], [Change(ago, "cli:ada", "kill.leads", True)])
    deploys = [Ran("0.2.0", ago, None, 3), Ran("0.1.0", None, ago, 3)]
    text = printed(
        "ModelErrors", known=Known({}, deploys, [Value({"job": "trellis-api"}, ago.timestamp())], "", switches)
    )
    when = "2026-11-22 02:30 UTC (30 min ago)"
    assert f"kill.leads is ON for every tenant, by cli:ada[2J, {when}." in text
    assert f"{when}: cli:ada set kill.leads to True." in text
    assert f"Youngest process of job=trellis-api: began {when}." in text
    assert [line.split()[:2] for line in text.splitlines() if line.startswith("0.")] == [
        ["0.2.0", "2026-11-22"],
        ["0.1.0", "before"],
    ]


def test_versions_begin_where_they_were_not_before_and_end_where_they_are_no_more() -> None:
    begin = NOW.timestamp() - 7200
    old = [(begin + 60 * n, 3.0) for n in range(60)]
    new = [(begin + 60 * n, 2.0) for n in range(58, 121)]
    back = [*old, *((begin + 60 * n, 1.0) for n in range(110, 121))]
    assert [(one.version, one.began is None, one.ended is None) for one in runs({"1": old, "2": new}, NOW)] == [
        ("2", False, True),
        ("1", True, False),
    ]
    again, *_ = runs({"1": back, "2": new}, NOW)
    assert (again.version, again.processes) == ("1", 1)
    assert runs({}, NOW) == []


def test_numbers_are_read_without_counting_zeros() -> None:
    assert [number(value) for value in (3.0, 0.12345678, 1e15, float("nan"), 2_000_000.0)] == [
        "3", "0.1235", "1e+15", "nan", "2000000",
    ]  # fmt: skip


def test_a_name_that_is_near_is_told_and_none_leaves_the_folder(tmp_path: Path) -> None:
    assert "did you mean PostgresDown" in find_page("PostgresDwn").why_not
    assert "There is no page for '../README'" in find_page("../README").why_not
    assert "not installed here" in find_page("PostgresDown", tmp_path).why_not
    assert find_page("procedures/flags").page == find_page("flags").page


def test_a_page_that_is_none_is_said_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts" / "A.md").write_text("# A\n\nLast drilled: never\n")
    assert "alerts/A.md: the sections must be" in find_page("A", tmp_path).why_not


def test_a_name_a_file_and_nothing_else_are_taken(tmp_path: Path) -> None:
    assert given("ModelErrors") == {"ModelErrors": ()}
    file = tmp_path / "alert.json"
    file.write_text('{"labels": {"alertname": "A"}}')
    assert list(given(str(file))) == ["A"]
    with pytest.raises(InvalidInput, match="cannot be read"):
        given(str(tmp_path / "none.json"))


def test_without_prometheus_and_database_the_page_is_printed_with_a_sentence_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRELLIS_HOME", str(tmp_path))
    said = CliRunner().invoke(cli, ["oncall", "ModelErrors"])
    assert said.exit_code == 0, said.output
    assert "it is not known where Prometheus is. Set TRELLIS_PROMETHEUS_URL" in said.output
    assert "Flags are not known, the database does not answer" in said.output
    assert "kubectl -n trellis rollout undo deploy/worker" in said.output
    assert list(tmp_path.iterdir()) == []  # nor is a database made


def test_wrong_settings_are_a_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_PORT", "no port")
    known = asyncio.run(gather([], NOW))
    assert "TRELLIS_PORT" in known.no_switches


def test_an_unknown_alert_from_standard_input_still_shows_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRELLIS_HOME", str(tmp_path))
    message = '{"version": "4", "alerts": [{"labels": {"alertname": "NoSuchAlert", "team": "api"}}]}'
    said = CliRunner().invoke(cli, ["oncall", "-"], input=message)
    assert said.exit_code == 1
    assert "fires: team=api" in said.output
    assert "There is no page for 'NoSuchAlert'" in said.output
    assert "Deploys of the last 24 hours" in said.output
