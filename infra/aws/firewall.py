"""The firewall before a load balancer: how much may come from one address, and what AWS knows to be an attack.

It knows no tenant and reads no body: the app's own limiter and checks do. AWS looks at the first 8 KiB of a body only,
and what people write to an agent, or upload, looks like an attack often enough: rules about bodies only count.
"""

from collections.abc import Sequence
from typing import Any, Final, cast

import pulumi
import pulumi_aws as aws

from infra.aws.logs import log_group
from infra.component import Component
from infra.phases import Phase
from infra.settings import Stack

_WINDOW_S: Final = 300
# Who shows no key: pages to sign in, probes. Health checkers ask thirty times in the window.
_STRANGER: Final = 1_000
_LEAST: Final = 3_000
_EACH: Final = 60
# The largest upload that the app takes is 20 MiB (TRELLIS_MAX_UPLOAD_BYTES), with its form around it.
MOST_BODY_BYTES: Final = 23_000_000
_BY_ADDRESS: Final = "AWSManagedRulesAmazonIpReputationList"
_KNOWN: Final = "AWSManagedRulesKnownBadInputsRuleSet"
_COMMON: Final = "AWSManagedRulesCommonRuleSet"
# Of the common rules: those that refuse what people say, or links in it, and one about bodies over 8 KiB.
_COUNTED: Final = (
    "SizeRestrictions_BODY",
    "CrossSiteScripting_BODY",
    "GenericLFI_BODY",
    "GenericRFI_BODY",
    "EC2MetaDataSSRF_BODY",
    "GenericRFI_QUERYARGUMENTS",
)
_KNOWN_COUNTED: Final = ("Log4JRCE_BODY", "JavaDeserializationRCE_BODY")
_CREDENTIALS: Final = ("authorization", "x-api-key", "cookie")

Rule = aws.wafv2.WebAclRuleArgsDict
# The library has a type of its own for a statement at each depth.
Match = dict[str, Any]


class Firewall(Component):
    """`arn` of the list of rules, put before one load balancer (its ARN). What it blocks is logged, without keys."""

    def __init__(
        self, stack: Stack, balancer: pulumi.Input[str], key: pulumi.Input[str], opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("aws:Firewall", stack, opts=opts)
        acl = aws.wafv2.WebAcl(
            "api",
            name=self.named("api"),
            scope="REGIONAL",
            default_action={"allow": {}},
            rules=_rules(stack.phase),
            visibility_config={
                "cloudwatch_metrics_enabled": True,
                "metric_name": "all",
                "sampled_requests_enabled": False,
            },
            tags=self.tagged("api"),
            opts=self.child(),
        )
        aws.wafv2.WebAclAssociation("api", resource_arn=balancer, web_acl_arn=acl.arn, opts=self.child())
        self._log(acl, key)
        self.arn = acl.arn
        self.register_outputs({"arn": acl.arn})

    def _log(self, acl: aws.wafv2.WebAcl, key: pulumi.Input[str]) -> None:
        # WAF writes only to groups whose names begin so.
        group = log_group(self, "blocked", f"aws-waf-logs-{self.named('api')}", key)
        aws.wafv2.WebAclLoggingConfiguration(
            "api",
            resource_arn=acl.arn,
            log_destination_configs=[group.arn],
            redacted_fields=[{"single_header": {"name": name}} for name in _CREDENTIALS],
            logging_filter={
                "default_behavior": "DROP",
                "filters": [
                    {
                        "behavior": "KEEP",
                        "requirement": "MEETS_ANY",
                        "conditions": [{"action_condition": {"action": action}} for action in ("BLOCK", "COUNT")],
                    }
                ],
            },
            opts=self.child(),
        )


def _rules(phase: Phase) -> Sequence[Rule]:
    """Cheapest first. A rule that AWS keeps is named after its group."""
    return [
        _managed(0, _BY_ADDRESS, ()),
        _own(1, "rate", _rate(per_address(phase), None)),
        _own(2, "strangers", _rate(_STRANGER, _no_credentials())),
        _own(3, "body", _large_body()),
        _managed(4, _KNOWN, _KNOWN_COUNTED),
        _managed(5, _COMMON, _COUNTED),
    ]


def per_address(phase: Phase) -> int:
    """Requests in five minutes from one address: all that the phase is made for may come from one company's gateway.

    Each conversation asks once in five seconds at most. Within that, the app's limiter holds every key to its own.
    """
    return max(_LEAST, phase.load.concurrent_conversations * _EACH)


def _own(priority: int, name: str, statement: Match) -> Rule:
    return {
        "name": name,
        "priority": priority,
        "action": {"block": {}},
        "statement": cast(aws.wafv2.WebAclRuleStatementArgsDict, statement),
        "visibility_config": _seen(name),
    }


def _rate(limit: int, only: Match | None) -> Match:
    return {
        "rate_based_statement": {
            "limit": limit,
            "aggregate_key_type": "IP",
            "evaluation_window_sec": _WINDOW_S,
            **({"scope_down_statement": only} if only else {}),
        }
    }


def _no_credentials() -> Match:
    """A header that is not there has no size, and matches nothing."""
    return {"not_statement": {"statement": {"or_statement": {"statements": [_has(name) for name in _CREDENTIALS]}}}}


def _has(header: str) -> Match:
    return {
        "size_constraint_statement": {
            "comparison_operator": "GT",
            "size": 0,
            "field_to_match": {"single_header": {"name": header}},
            "text_transformations": [{"priority": 0, "type": "NONE"}],
        }
    }


def _large_body() -> Match:
    """By what the request says of its length. One that says nothing of it (in chunks) is counted by the app."""
    return {
        "regex_match_statement": {
            "regex_string": at_least(MOST_BODY_BYTES),
            "field_to_match": {"single_header": {"name": "content-length"}},
            "text_transformations": [{"priority": 0, "type": "NONE"}],
        }
    }


def at_least(number: int) -> str:
    """A regular expression for whole numbers of that size or larger, with zeros before them or without."""
    digits = str(number)
    larger = [
        f"{digits[:place]}[{int(digit) + 1}-9]" + "[0-9]" * (len(digits) - place - 1)
        for place, digit in enumerate(digits)
        if digit != "9"
    ]
    return f"^0*({'|'.join([*larger, digits, f'[1-9][0-9]{{{len(digits)},}}'])})$"


def _managed(priority: int, name: str, counted: Sequence[str]) -> Rule:
    return {
        "name": name,
        "priority": priority,
        "override_action": {"none": {}},
        "statement": {
            "managed_rule_group_statement": {
                "vendor_name": "AWS",
                "name": name,
                "rule_action_overrides": [{"name": rule, "action_to_use": {"count": {}}} for rule in counted],
            }
        },
        "visibility_config": _seen(name),
    }


def _seen(name: str) -> aws.wafv2.WebAclRuleVisibilityConfigArgsDict:
    # Samples hold what people sent.
    return {"cloudwatch_metrics_enabled": True, "metric_name": name, "sampled_requests_enabled": False}
