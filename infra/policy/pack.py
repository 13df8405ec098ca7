"""The rules as a Pulumi policy pack: the engine asks it before and after anything is made.

Its library pins another protobuf than the programs' environment has, so it lives in an environment of its own
(`uv sync --no-default-groups --group policy`) and nothing else here imports it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pulumi_policy import (  # type: ignore[import-not-found]
    EnforcementLevel,
    PolicyPack,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError  # type: ignore[import-not-found]

from infra.policy.exceptions import written
from infra.policy.finding import UNKNOWN, Finding, Rule
from infra.policy.rules import RULES
from infra.recording import Graph, Resource


def serve() -> None:
    """Does not return: the engine ends the process. A finding stops the deployment."""
    PolicyPack(name="trellis", policies=list(policies()), enforcement_level=EnforcementLevel.MANDATORY)


def policies() -> Sequence[Any]:
    """One a rule. Those that read which inputs are secret are left to `make plan`: the engine gives a pack plain
    values without the marks."""
    return [
        StackValidationPolicy(name=rule.name, description=rule.source, validate=partial(_validate, rule))
        for rule in RULES
        if not rule.offline
    ]


def _validate(rule: Rule, args: Any, report: Callable[[str, str], None]) -> None:
    for finding in rule(graph_of(args.resources)):
        if not _allowed(finding):
            report(finding.sentence, finding.urn)


def _allowed(finding: Finding) -> bool:
    return any(one.covers(finding) for one in written())


def graph_of(resources: Sequence[Any]) -> Graph:
    """Of what the engine sends (`PolicyResource`s); what it does not know yet is UNKNOWN."""
    stack = resources[0].urn.split(":")[2] if resources else ""
    return Graph(stack, sorted(map(_resource, resources), key=lambda one: one.urn), {})


def _resource(given: Any) -> Resource:
    return Resource(
        urn=given.urn,
        type=given.resource_type,
        name=given.name,
        parent=given.parent.urn if given.parent else "",
        custom="::trellis:" not in given.urn,
        inputs=_plain(given.props),
        secrets=(),
        depends_on=[one.urn for one in given.dependencies],
        protect=given.opts.protect,
        aliases=list(given.opts.aliases),
        ignore_changes=list(given.opts.ignore_changes),
        provider=given.provider.urn if given.provider else "",
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(_known(value, key)) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(_known(value, index)) for index in range(len(value))]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _known(of: Any, key: Any) -> Any:
    try:
        return of[key]
    except UnknownValueError:
        return UNKNOWN
