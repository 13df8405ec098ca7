"""Every board that is committed."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from alerts.generate import RULES
from dashboards.generate import committed
from dashboards.src.catalogue import BOARDS, used
from dashboards.src.house import document
from infra.phases import PHASES
from infra.scrapes import scrapes
from tests.support.board_lint import lint, panels
from tests.support.promql import Metric, federated, known

MOST_PANELS = 20
ABOVE = {"trellis-regions"}
"""Boards of the Prometheus that gathers all regions."""


@pytest.fixture(scope="module")
def names() -> Mapping[str, Metric]:
    return known()


@pytest.fixture(scope="module")
def boards() -> Mapping[str, Any]:
    return {board.UID: json.loads(document(board.build())) for board in BOARDS}


@pytest.fixture(scope="module")
def alerts() -> Mapping[str, str]:
    """By name: the uid of its dashboard."""
    files = [yaml.safe_load(path.read_text()) for path in RULES.glob("*/*.yaml")]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"] if "alert" in rule]
    return {rule["alert"]: rule["annotations"]["dashboard_url"].rpartition("/")[2] for rule in rules}


@pytest.mark.parametrize("uid", [board.UID for board in BOARDS])
def test_a_board_is_one_that_a_person_can_use_at_night(
    uid: str, boards: Mapping[str, Any], names: Mapping[str, Metric]
) -> None:
    assert lint(boards[uid], federated(names) if uid in ABOVE else names) == []
    assert len(panels(boards[uid])) <= MOST_PANELS


def test_the_files_are_what_the_modules_build() -> None:
    for path, text in committed().items():
        assert path.read_text() == text, f"{path.name}: run `make dashboards`"


def test_no_two_boards_share_a_uid_or_a_title(boards: Mapping[str, Any]) -> None:
    assert len(boards) == len(BOARDS)
    assert len({board["title"] for board in boards.values()}) == len(BOARDS)
    assert all(board["uid"] == uid for uid, board in boards.items())


def test_every_alert_leads_to_a_board_that_its_phase_has(boards: Mapping[str, Any], alerts: Mapping[str, str]) -> None:
    assert set(alerts.values()) <= boards.keys()


@pytest.mark.parametrize("phase", PHASES.values(), ids=lambda phase: phase.name.value)
def test_the_boards_of_a_phase_hold_those_that_its_alerts_lead_to(phase: Any) -> None:
    files = [yaml.safe_load(path.read_text()) for path in (RULES / phase.name.value).glob("*.yaml")]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["annotations"]["dashboard_url"].rpartition("/")[2] for rule in rules} <= set(used(phase))


def test_what_a_description_sends_a_reader_to_is_there(boards: Mapping[str, Any], alerts: Mapping[str, str]) -> None:
    jobs = {scrape.job for phase in PHASES.values() for scrape in scrapes(phase)}
    titles = {panel["title"] for board in boards.values() for panel in panels(board)}
    for board in boards.values():
        for panel in panels(board):
            told, where = panel["description"], f"{board['uid']}, {panel['title']}"
            assert set(re.findall(r"trellis-[a-z]+", told)) <= boards.keys() | jobs, where
            assert set(re.findall(r"runbook of ([A-Z]\w+)", told)) <= alerts.keys(), where
            _before, _next, where_next = told.partition("Next:")
            assert set(re.findall(r"(?<=[ (])'([A-Z][^']*)'", where_next)) <= titles, where


def test_the_first_line_of_the_slos_answers_in_colours(boards: Mapping[str, Any]) -> None:
    first = [panel for panel in panels(boards["trellis-slo"]) if panel["gridPos"]["y"] == 1]
    assert {panel["type"] for panel in first} == {"stat"}
    for panel in first:
        colours = [step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert {"red", "green"} <= set(colours), panel["title"]
