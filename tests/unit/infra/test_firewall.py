"""What is turned away before it reaches the cluster, and what must not be."""

import re
from typing import Any

import pulumi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.settings import Settings
from infra.aws.firewall import MOST_BODY_BYTES, Firewall, at_least, per_address
from infra.layout import stacks_of
from infra.phases import PHASES, PhaseName
from infra.settings import Account, Stack
from tests.support.examples import examples
from tests.support.infra import recorded

SMALL = Stack(
    stacks_of(PHASES[PhaseName.SMALL])[0],
    PHASES[PhaseName.SMALL],
    Account(account="222222222222", alarm_email="ops@trellis.test", domain="a.trellis.test", zone="Z0123456789ABCDEF"),
)


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    graph = recorded(lambda: Firewall(SMALL, "arn:balancer", "arn:key", pulumi.ResourceOptions()) and None)
    (acl,) = graph.of("aws:wafv2/webAcl:WebAcl")
    (log,) = graph.of("aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration")
    return [*acl.inputs["rules"], log.inputs]


@settings(max_examples=examples(200))
@given(st.integers(1, 10**12), st.integers(0, 10**13), st.integers(0, 3))
def test_a_number_is_matched_exactly_where_it_is_large_enough(least: int, number: int, zeros: int) -> None:
    assert bool(re.search(at_least(least), "0" * zeros + str(number))) == (number >= least)


@pytest.mark.parametrize("text", ["", "-23000000", "23000000 ", "2.3e7", "99999999x"])
def test_what_is_no_length_is_left_to_the_app(text: str) -> None:
    assert not re.search(at_least(MOST_BODY_BYTES), text)


def test_the_expression_is_as_short_as_the_firewall_takes_it() -> None:
    assert len(at_least(MOST_BODY_BYTES)) <= 512


def test_the_largest_upload_that_the_app_takes_comes_through() -> None:
    form = 1 << 20
    largest = Settings.model_fields["max_upload_bytes"].default
    assert not re.search(at_least(MOST_BODY_BYTES), str(largest + form))


@pytest.mark.parametrize("phase", list(PHASES.values()), ids=str)
def test_one_companys_gateway_may_bring_all_that_a_phase_carries(phase: Any) -> None:
    turn_every_s = 5
    assert per_address(phase) >= phase.load.concurrent_conversations * 300 / turn_every_s


def test_rules_about_bodies_only_count_since_people_write_anything(rules: list[dict[str, Any]]) -> None:
    groups = {
        rule["name"]: rule["statement"]["managedRuleGroupStatement"]["ruleActionOverrides"]
        for rule in rules
        if "managedRuleGroupStatement" in rule.get("statement", {})
    }
    counted = {one["name"] for one in groups["AWSManagedRulesCommonRuleSet"] if "count" in one["actionToUse"]}
    assert {"SizeRestrictions_BODY", "CrossSiteScripting_BODY"} <= counted


def test_who_shows_no_key_gets_less_than_who_does(rules: list[dict[str, Any]]) -> None:
    limits = {
        rule["name"]: rule["statement"]["rateBasedStatement"]
        for rule in rules
        if "rateBasedStatement" in rule.get("statement", {})
    }
    assert limits["strangers"]["limit"] < limits["rate"]["limit"]
    without = limits["strangers"]["scopeDownStatement"]["notStatement"]["statement"]["orStatement"]["statements"]
    headers = {one["sizeConstraintStatement"]["fieldToMatch"]["singleHeader"]["name"] for one in without}
    assert headers == {"authorization", "x-api-key", "cookie"}


def test_no_credential_is_in_the_log_of_what_was_blocked(rules: list[dict[str, Any]]) -> None:
    hidden = {one["singleHeader"]["name"] for one in rules[-1]["redactedFields"]}
    assert hidden >= {"authorization", "x-api-key", "cookie"}


def test_priorities_are_each_rules_own(rules: list[dict[str, Any]]) -> None:
    priorities = [rule["priority"] for rule in rules[:-1]]
    assert len(set(priorities)) == len(priorities) == 6
