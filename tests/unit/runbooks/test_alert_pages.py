"""Every alert has its page, every page its alert, and the page says what somebody needs who was woken by it."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import yaml

from alerts.generate import RULES
from infra.links import LINKS
from runbooks.pages import NEVER, Kind, Language, parse_page
from tests.support.runbooks import ALERTS, RUNBOOKS, named_panels, pages, panels, texts

_BOARD = re.compile(r"`(trellis-[a-z]+)`")
_PLACES = {"trellis-data", "trellis-models", "trellis-telemetry"}
_TIME = re.compile(
    r"\b(seconds?|minutes?|hours?|at once|days?|\d+ (?:s|min)|restart|nothing to roll back|cannot|within|as soon as)\b",
    re.IGNORECASE,
)
_LOSS = re.compile(
    r"\b(lost|loss|loses?|gone|no (?:data|row|key|lead|decision|point)s?|not (?:touched|come back)"
    r"|nothing (?:is|else|on|half)"
    r"|kept|keeps?|missing|stays?|have their data|holds nothing|personal data)\b",
    re.IGNORECASE,
)


@cache
def alerts() -> Mapping[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for path in sorted(RULES.glob("*/*.yaml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    found.setdefault(rule["alert"], []).append(rule)
    return found


def test_each_alert_has_one_page_and_each_page_one_alert() -> None:
    assert ALERTS.keys() == alerts().keys()


def test_the_link_of_each_alert_leads_to_its_page() -> None:
    for name, rules in alerts().items():
        for rule in rules:
            link = rule["annotations"]["runbook_url"].removeprefix(LINKS.runbooks)
            assert (RUNBOOKS / link.lstrip("/")).resolve() == ALERTS[name].resolve()


@pytest.mark.parametrize("name", ALERTS)
def test_a_page_has_its_title_and_no_section_is_empty(name: str) -> None:
    page = pages()[f"alerts/{name}"]
    assert page.title == name
    assert [title for title, body in page.sections.items() if len(body.split()) < 4] == []


def test_the_template_is_a_page() -> None:
    template = parse_page((RUNBOOKS / "TEMPLATE.md").read_text(), "TEMPLATE")
    assert (template.title, template.last_drilled) == ("<AlertName>", NEVER)
    assert {block.kind for block in template.blocks} == set(Kind)


@pytest.mark.parametrize("name", ALERTS)
def test_verification_and_recovery_have_a_query_and_mitigation_has_steps(name: str) -> None:
    page = pages()[f"alerts/{name}"]
    for section in ("Verify", "Verify recovery"):
        assert Language.PROMQL in {block.language for block in page.of(section)}
    assert re.search(r"^1\. ", page.sections["Mitigate"], re.MULTILINE)


@pytest.mark.parametrize("name", ALERTS)
def test_commands_to_run_stand_in_blocks_and_only_a_rollback_rolls_back(name: str) -> None:
    page = pages()[f"alerts/{name}"]
    assert [block.body for block in page.of("Mitigate") if block.kind is Kind.ROLLBACK] == []
    assert [block.body for block in page.of("Rollback") if block.kind is Kind.MUTATE] == []


@pytest.mark.parametrize("name", ALERTS)
def test_the_way_back_says_how_long_it_takes_and_what_is_lost(name: str) -> None:
    words = re.sub(r"```[\s\S]*?```", "", pages()[f"alerts/{name}"].sections["Rollback"])
    assert _TIME.search(words)
    assert _LOSS.search(words)


@pytest.mark.parametrize("name", ALERTS)
def test_what_changed_is_dated_and_in_order(name: str) -> None:
    lines = pages()[f"alerts/{name}"].sections["Recent changes"].splitlines()
    dates = [re.match(r"- (\d{4}-\d\d-\d\d): \S.*\.$", line) for line in lines]
    assert all(dates)
    assert [found[1] for found in dates if found] == sorted(found[1] for found in dates if found)


@pytest.mark.parametrize("name", ALERTS)
def test_escalation_names_the_team_of_the_alert(name: str) -> None:
    teams = {rule["labels"]["team"] for rule in alerts()[name]}
    told = pages()[f"alerts/{name}"].sections["Escalate"].lower()
    assert {team for team in teams if f"team {team}" not in told} == set()


@pytest.mark.parametrize("name", ALERTS)
def test_a_page_names_its_boards_and_their_panels(name: str) -> None:
    text = texts()[f"alerts/{name}"]
    assert set(_BOARD.findall(text)) - _PLACES - panels().keys() == set()
    assert list(named_panels(text))
    assert {rule["annotations"]["dashboard_url"].rsplit("/", 1)[-1] for rule in alerts()[name]} <= panels().keys()
