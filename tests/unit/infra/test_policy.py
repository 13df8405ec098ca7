"""Stacks keep every rule; what does not is written down with its reason."""

import pytest

from infra.errors import InfraError
from infra.policy.exceptions import Allowance, written
from infra.policy.finding import Finding
from infra.policy.rules import RULES, broken, findings
from tests.support.infra import STACK, graph
from tests.support.policy import aws
from tests.support.stacks import every_stack

URN = f"urn:pulumi:{STACK}::trellis::trellis:aws:Network$aws:ec2/vpc:Vpc::vpc"
FOUND = Finding(STACK, URN, "tags", "It has no tag 'phase'.")


def test_no_stack_breaks_a_rule():
    assert [finding for planned in every_stack().values() for finding in findings(planned)] == []


def test_every_exception_is_still_needed():
    found = [finding for planned in every_stack().values() for finding in broken(planned)]
    assert [one for one in written() if not any(map(one.covers, found))] == []


def test_names_of_rules_are_their_own_and_each_says_where_it_comes_from():
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.source for rule in RULES)


@pytest.mark.parametrize(
    ("allowance", "covered"),
    [
        ({}, True),
        ({"resource": "aws:ec2/vpc:Vpc::*"}, True),
        ({"resource": "aws:ec2/vpc:Vpc::other"}, False),
        ({"rule": "imdsv2"}, False),
        ({"stack": "small-*"}, True),
        ({"stack": "medium-*"}, False),
        ({"about": "*'phase'*"}, True),
        ({"about": "*'stack'*"}, False),
    ],
)
def test_an_exception_covers_what_it_names_and_no_more(allowance, covered):
    whole = {"rule": "tags", "resource": "aws:ec2/vpc:Vpc::vpc", "reason": "for a test", **allowance}
    assert Allowance(**whole).covers(FOUND) is covered


def test_what_is_allowed_is_not_found_and_the_rest_is():
    planned = graph(aws("ec2/vpc:Vpc", "one"), aws("ec2/vpc:Vpc", "two"))
    allowed = [Allowance("tags", "aws:ec2/vpc:Vpc::one", "for a test")]
    assert {one.urn.rpartition("::")[2] for one in findings(planned, allowed) if one.rule == "tags"} == {"two"}


@pytest.mark.parametrize(
    "line",
    ["{rule: tags, resource: a}", "{rule: tags, resource: a, reason: ' '}", "{rule: t, resource: a, reason: b, c: d}"],
)
def test_an_exception_without_a_reason_is_refused(line, tmp_path):
    file = tmp_path / "exceptions.yaml"
    file.write_text(f"exceptions: [{line}]")
    with pytest.raises(InfraError, match="needs a rule, a resource and a reason"):
        written(file)
