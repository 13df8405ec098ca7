"""What a house has of its phase, before anything is started."""

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from infra.phases import PHASES, Phase, PhaseName
from infra.pools import plan
from loadtest.house import Furniture, HouseError, house
from loadtest.house.backends import pooler_share, stores
from loadtest.house.settings import models, pod
from loadtest.stub.pace import FAST
from tests.support.components import COMPONENTS, Component

SMALL, MEDIUM, POC = (PHASES[name] for name in (PhaseName.SMALL, PhaseName.MEDIUM, PhaseName.POC))


def nothing(line: str) -> None:
    """Hears a step."""


async def test_without_postgresql_a_sentence_says_what_cannot_be_measured(tmp_path: Path) -> None:
    absent = {**COMPONENTS, "postgres": Component(["no-such-program"], {})}
    with patch("loadtest.house.backends.COMPONENTS", absent):
        async with AsyncExitStack() as stack:
            with pytest.raises(HouseError, match=r"PostgreSQL is not installed.*'small'.*`make deps`"):
                await stores(stack, tmp_path, SMALL, nothing)


async def test_a_folder_that_is_no_houses_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("Years of work.")
    with pytest.raises(HouseError, match="is not empty"):
        async with house(tmp_path, POC, model=FAST, say=nothing):
            pytest.fail("it started")
    assert precious.read_text() == "Years of work."


async def test_the_embedded_phase_needs_no_servers(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        found = await stores(stack, tmp_path, POC, nothing)
    assert found.ports == {}
    assert found.named["database"] == "SQLite"


@pytest.mark.parametrize("phase", PHASES.values(), ids=lambda phase: phase.name)
def test_a_replicas_share_of_the_poolers_is_no_more_than_they_have(phase: Phase) -> None:
    share = pooler_share(phase)
    if phase.server is None or not phase.server.poolers:
        assert share in (0, 2)
        return
    whole = phase.server.poolers * plan(phase).pooler
    assert share >= 2
    assert share * (phase.fleet.least + 2) / 2 <= whole


def test_a_phases_own_models_have_the_hosted_one_behind_them() -> None:
    found = models(MEDIUM, "http://model/v1")
    assert MEDIUM.models is not None
    assert (found["model_name"], found["model_fallback_name"]) == (MEDIUM.models.model, "general")
    assert "model_fallback_url" not in models(SMALL, "http://model/v1")


def test_only_a_phase_with_poolers_is_told_of_them() -> None:
    assert "database_pooled" not in pod(SMALL)
    assert pod(MEDIUM)["database_pooled"] == "true"
    assert pod(POC)["environment"] == "production"


def test_a_house_has_a_tenant_and_questions() -> None:
    for wrong in ({"tenants": 0}, {"known": 0}, {"known": 1_000}, {"documents": -1}):
        with pytest.raises(ValueError, match="a house has"):
            replace(Furniture(), **wrong)
