"""The checklist of each step: every line is there, and says what was seen or what to do."""

from typing import Any

import pytest

from app.plain_console import PlainConsole
from app.promotion.checklist import State, checklist, show
from app.promotion.compare import Verified
from app.promotion.look import Look
from app.promotion.report import Report
from app.promotion.steps import Finding, StepReport
from app.settings import Settings, load_settings

NAMES = ("PostgreSQL", "schema", "logins", "row policies", "Qdrant", "Redis", "pooler and replicas")
READY = [Look(name, True, "Fine.") for name in NAMES]
REAL = {
    "crm": "hubspot",
    "hubspot_token": "t",
    "calendar": "google",
    "google_calendar_id": "c",
    "google_service_account_file": "f",
    "mailer": "sendgrid",
    "sendgrid_key": "k",
}
LINES = {"poc": 0, "small": 12, "medium": 10, "multi-region": 8}


def settings(phase: str, **given: Any) -> Settings:
    return load_settings({}, phase=phase, **given)


def report(*, passed: bool = True) -> Report:
    steps = tuple(StepReport(name, {}, (Finding(f"{name} agree", passed, "seen"),)) for name in ("vectors", "answers"))
    tables = (Verified("leads", 7, "sum"), Verified("chunks", 3, "sum"))
    return Report("old", "new", False, {}, 1.0, 0, 1.0, 1.0, tables, steps)


@pytest.mark.parametrize("phase", LINES)
def test_every_line_of_a_step_is_there_with_its_evidence(phase: str) -> None:
    lines = checklist(settings(phase), READY, report())
    assert len({line.what for line in lines}) == len(lines) == LINES[phase]
    assert all(line.evidence for line in lines)


def test_before_a_promotion_nothing_that_it_does_is_checked() -> None:
    lines = checklist(settings("small"), [])
    assert {line.state for line in lines} == {State.NOT_YET, State.PERSON}
    assert [line.evidence for line in lines if "SQLite" in line.what] == ["Run `trellis promote`."]


def test_what_stands_and_moved_is_checked_and_five_lines_are_a_persons() -> None:
    lines = checklist(settings("small", **REAL), READY, report())
    assert [line.state for line in lines].count(State.CHECKED) == 8
    assert [line.what for line in lines if line.state is State.PERSON][-1] == "It was loaded beyond what is promised"
    moved = next(line for line in lines if "SQLite" in line.what)
    assert moved.evidence.startswith("10 rows in 2 tables")


def test_a_fault_is_no_check() -> None:
    bad = [*READY[:-2], Look("Redis", False, "It is away.", "Start it.")]
    lines = checklist(settings("small"), bad, report(passed=False))
    found = {line.what: line for line in lines if line.state is State.NOT_YET}
    assert found["Redis stands"].evidence == "Redis: It is away. Start it."
    assert "The knowledge base is indexed anew" in found
    assert "TRELLIS_CRM" in found["The CRM is a real one"].evidence


def test_the_load_is_the_phases_own() -> None:
    assert "5 times 500 conversations" in checklist(settings("medium"), READY)[-1].evidence


def test_a_secret_address_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    given = {"model_url": "http://m/v1", "model_key": "hidden", "model_fallback_url": "http://u:hidden@f/v1"}
    lines = checklist(settings("medium", **given), READY)
    show(lines, PlainConsole())
    assert "hidden" not in f"{lines}{capsys.readouterr().out}"
    assert "TRELLIS_MODEL_FALLBACK_URL is set." in [line.evidence for line in lines]
