"""Routes: nothing names an alert that there is not, no secret is in the file, and every team can be reached."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from alerts.generate import RULES
from alerts.model import Severity, Team
from alerts.routes import INHIBITIONS, committed, document

_TOLD = (Severity.PAGE, Severity.TICKET)


def alerts() -> dict[str, list[dict[str, Any]]]:
    """Every alert of every phase by its name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in RULES.glob("*/*.yaml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                found.setdefault(rule.get("alert", ""), []).append(rule)
    return found


def test_what_silences_and_what_is_silenced_exists() -> None:
    names = alerts().keys()
    wanted = {name for inhibition in INHIBITIONS for name in (inhibition.by, *inhibition.silenced)}
    assert [name for name in wanted if not any(re.fullmatch(name, known) for known in names)] == []


def test_only_a_region_that_is_down_silences_a_page() -> None:
    assert [inhibition.by for inhibition in INHIBITIONS if not inhibition.only_tickets] == ["RegionDown"]


def test_an_slo_has_a_page_that_silences_its_ticket() -> None:
    burning = {name: rules for name, rules in alerts().items() if name.endswith("BudgetBurn")}
    both = {name for name, rules in burning.items() if {rule["labels"]["severity"] for rule in rules} == set(_TOLD)}
    assert both >= {"AvailabilityBudgetBurn", "LatencyBudgetBurn"}


def test_every_team_has_a_pager_and_a_chat() -> None:
    names = {receiver["name"] for receiver in document()["receivers"]}
    assert names == {"heartbeat", "nobody"} | {f"{channel}-{team}" for channel in ("pager", "chat") for team in Team}


def test_a_ticket_waits_for_the_working_day_and_a_page_does_not() -> None:
    ends = list(_ends(document()["route"]))
    assert {end["receiver"].partition("-")[0] for end in ends if "active_time_intervals" in end} == {"chat"}
    assert [end["receiver"] for end in ends if end["receiver"].startswith("pager-") and len(end) != 2] == []
    tickets = next(route for route in document()["route"]["routes"] if 'severity="ticket"' in route["matchers"])
    assert all(end["active_time_intervals"] == ["working-hours"] for end in tickets["routes"])


def _ends(route: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "routes" not in route:
        yield route
    for below in route.get("routes", ()):
        yield from _ends(below)


def test_secrets_are_in_files_of_their_own() -> None:
    (text,) = committed().values()
    keys = re.findall(r"^\s*(?:- )?(\w*(?:key|url|credentials|password|token)\w*):", text, re.MULTILINE)
    assert set(keys) == {"routing_key_file", "client_url", "api_url_file", "url", "credentials_file"}
    assert re.findall(r"^\s*- url: (.*)$", text, re.MULTILINE) == ["https://heartbeat.trellis.example/ping"]
