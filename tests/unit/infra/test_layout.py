"""Names of stacks, their order, and what there is not."""

import pytest

from infra.errors import InfraError
from infra.layout import StackName, before, chosen, stacks_of
from infra.phases import PHASES


def test_every_stack_of_every_phase_is_read_back_from_its_name():
    for phase in PHASES.values():
        for stack in stacks_of(phase):
            assert StackName.parse(str(stack)) == stack


def test_a_stack_comes_after_all_that_it_reads():
    for phase in PHASES.values():
        order = stacks_of(phase)
        for stack in order:
            assert all(order.index(needed) < order.index(stack) for needed in before(stack))


def test_the_first_region_has_the_writer_and_the_edge_reads_every_cell():
    assert before(StackName.parse("multi-region-us-east-1-infra")) == ()
    assert list(map(str, before(StackName.parse("multi-region-ap-northeast-1-infra")))) == [
        "multi-region-us-east-1-infra"
    ]
    assert len(before(StackName.parse("multi-region-edge"))) == 3


def test_a_region_of_a_phase_is_without_what_joins_regions():
    assert list(map(str, chosen("multi-region", "eu-central-1"))) == [
        "multi-region-eu-central-1-infra",
        "multi-region-eu-central-1-apps",
    ]


@pytest.mark.parametrize(
    ("phase", "region", "said"),
    [
        ("smal", "", "There is no phase 'smal': there are poc, small, medium, multi-region and cluster-apps."),
        ("small", "mars-1", "The region 'mars-1' is not in infra/regions.py"),
        ("multi-region", "eu-west-1", "add 'eu-west-1' to its regions in infra/phases.py"),
        ("cluster-apps", "eu-central-1", "'cluster-apps' is in no region"),
    ],
)
def test_a_phase_or_region_that_is_not_there_is_one_sentence(phase, region, said):
    with pytest.raises(InfraError) as caught:
        chosen(phase, region)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["small", "small-eu-central-1", "poc-eu-central-1-infra", "cluster", "small-eu-central-1-infra-x", ""]
)
def test_a_name_that_is_no_stack_says_which_there_are(name):
    with pytest.raises(InfraError, match="There is no stack") as caught:
        StackName.parse(name)
    assert "small-eu-central-1-infra" in str(caught.value)
