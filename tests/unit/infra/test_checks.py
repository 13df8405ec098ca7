"""What is refused before anything is asked for: networks that overlap, machines a region lacks, files not filled in."""

from dataclasses import replace

import pytest

from infra import checks
from infra.checks import check, ready
from infra.errors import InfraError
from infra.files import STACKS, stack_files
from infra.layout import StackName
from infra.phases import PHASES, PhaseName
from infra.settings import Cell, Stack, read
from tests.support.infra import CELL, stack_file

FIRST, SECOND = "multi-region-us-east-1-infra", "multi-region-eu-central-1-infra"


def cell(name, cidr="10.20.0.0/16"):
    stack = StackName.parse(name)
    given = read(Cell, {f"trellis:{key}": value for key, value in {**CELL, "cidr": cidr}.items()})
    return Stack(stack, PHASES[stack.phase], given)


@pytest.mark.parametrize("other", ["10.20.0.0/16", "10.20.128.0/17", "10.20.64.0/18"])
def test_networks_of_regions_that_overlap_are_refused_from_either_side(tmp_path, other):
    stack_file(tmp_path, FIRST, CELL)
    stack_file(tmp_path, SECOND, {**CELL, "cidr": other})
    for name, cidr in ((FIRST, "10.20.0.0/16"), (SECOND, other)):
        with pytest.raises(InfraError, match="overlap: give one of them another trellis:cidr") as caught:
            check(cell(name, cidr), tmp_path)
        assert FIRST in str(caught.value)
        assert SECOND in str(caught.value)


def test_networks_beside_each_other_are_fine_and_so_is_one_of_another_phase(tmp_path):
    stack_file(tmp_path, FIRST, CELL)
    stack_file(tmp_path, SECOND, {**CELL, "cidr": "10.21.0.0/16"})
    stack_file(tmp_path, "small-eu-central-1-infra", CELL)
    check(cell(FIRST), tmp_path)
    check(cell(SECOND, "10.21.0.0/16"), tmp_path)


def test_a_plan_in_another_region_stands_in_the_place_of_the_phases_own(tmp_path):
    stack_file(tmp_path, "small-eu-central-1-infra", CELL)
    check(cell("small-eu-west-1-infra"), tmp_path)


def test_a_region_that_lacks_the_phases_machines_is_refused(tmp_path, monkeypatch):
    small = PHASES[PhaseName.SMALL]
    whole = checks.load_prices()
    kept = {name: price for name, price in whole.items.items() if name != f"instance/{small.nodes.bootstrap}"}
    elsewhere = {"us-east-1": whole.items[f"instance/{small.nodes.bootstrap}"]["us-east-1"]}
    lacking = replace(whole, items={**kept, f"instance/{small.nodes.bootstrap}": elsewhere})
    monkeypatch.setattr(checks, "load_prices", lambda: lacking)
    with pytest.raises(InfraError, match=f"eu-central-1 does not offer {small.nodes.bootstrap}"):
        check(cell("small-eu-central-1-infra"), tmp_path)
    check(cell("small-us-east-1-infra"), tmp_path)


def test_every_phase_finds_its_machines_in_its_own_regions(tmp_path):
    for phase in PHASES.values():
        for region in phase.fleet.regions if phase.nodes else ():
            check(cell(f"{phase.name}-{region}-infra"), tmp_path)


def test_a_fresh_clones_files_are_planned_and_never_made():
    for name in stack_files(STACKS):
        with pytest.raises(InfraError, match="still has what this repository came with in trellis:"):
            ready(StackName.parse(name))


def test_a_filled_in_file_may_be_made(tmp_path):
    stack_file(tmp_path, "small-eu-central-1-infra", CELL)
    ready(StackName.parse("small-eu-central-1-infra"), tmp_path)


def test_a_secret_that_is_not_set_is_named_with_the_command_that_sets_it(tmp_path):
    stack_file(tmp_path, FIRST, CELL)
    command = f"pulumi config set --secret trellis:databasePassword --stack {FIRST}"
    with pytest.raises(InfraError, match=command):
        ready(StackName.parse(FIRST), tmp_path)
    stack_file(tmp_path, FIRST, CELL, ["  trellis:databasePassword:", "    secure: v1:abc"])
    ready(StackName.parse(FIRST), tmp_path)
