"""What `trellis teams clients` and `health` print."""

from datetime import UTC, datetime
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from app.packs.teams.client_schemas import (
    ClientDetail,
    ClientOut,
    ClientPage,
    FactorOut,
    HealthHead,
    HealthOut,
    TrendOut,
)
from app.packs.teams.health import Direction, HealthState
from app.packs.teams.health_commands import add_health_commands

AT = datetime(2026, 3, 2, tzinfo=UTC)
HEAD = HealthHead(id="health_1", at=AT, score=32.7, state=HealthState.AT_RISK)
CLIENT = {
    "id": "client_1",
    "external_id": "borealis",
    "name": "Borealis",
    "email": "",
    "crm_id": "",
    "repository": "",
    "attributes": {},
    "created_at": AT,
    "updated_at": AT,
}
HEALTH = HealthOut(
    **HEAD.model_dump(),
    factors=[
        FactorOut(name="activity", value=0.49, weight=0.6, points=29.6, sentence="Less than usual.", source="rule"),
        FactorOut(name="tickets", value=None, weight=0.0, points=0.0, sentence="No ticket is known.", source="rule"),
    ],
    notes=["The CRM could not be read."],
    method="rules-1",
    trend=TrendOut(then=58.6, at=AT, change=-25.9, direction=Direction.DOWN),
)


def printed(found: Any, *arguments: str) -> tuple[int, str]:
    """How the command ended and what it printed where its work comes to `found`."""
    commands, out = typer.Typer(), Console(width=160, record=True)
    add_health_commands(commands, lambda _work, _tenant: found, out)
    result = CliRunner().invoke(commands, list(arguments), catch_exceptions=False)
    return result.exit_code, out.export_text()


def test_clients_are_listed_with_their_state() -> None:
    page = ClientPage(
        items=[ClientOut(**CLIENT, health=HEAD), ClientOut(**CLIENT | {"external_id": "new"}, health=None)],
        next_cursor="client_1",
    )
    code, text = printed(page, "clients", "--state", "at_risk")
    assert code == 0
    assert "32.7" in text
    assert "not scored" in text
    assert "/v1/teams/clients?state=at_risk" in text


def test_health_is_shown_factor_by_factor() -> None:
    code, text = printed(ClientDetail(**CLIENT, health=HEALTH), "health", "borealis")
    assert code == 0
    for words in ("32.7 of 100, at_risk", "29.6", "no data", "-25.9 against 2026-03-02: down", "could not be read"):
        assert words in text


def test_a_client_without_a_score_says_how_to_get_one() -> None:
    code, text = printed(ClientDetail(**CLIENT, health=None), "health", "borealis")
    assert code == 1
    assert "add --now" in text


@pytest.mark.parametrize("state", ["lost", ""])
def test_an_unknown_state_is_refused(state: str) -> None:
    assert printed(None, "clients", "--state", state)[0] == 2
