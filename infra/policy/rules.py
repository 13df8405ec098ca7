"""Every rule, run over a stack's graph."""

from collections.abc import Iterable, Sequence
from typing import Final

from infra.policy import rules_cluster, rules_data, rules_network, rules_pods, rules_rights
from infra.policy.exceptions import Allowance, written
from infra.policy.finding import Finding, Rule
from infra.recording import Graph

_ROOMS: Final = (rules_network, rules_rights, rules_data, rules_pods, rules_cluster)
RULES: Final[tuple[Rule, ...]] = tuple(
    found for room in _ROOMS for found in vars(room).values() if isinstance(found, Rule)
)


def findings(graph: Graph, allowed: Sequence[Allowance] | None = None) -> Iterable[Finding]:
    """What the rules say, without what exceptions.yaml allows."""
    excepted = written() if allowed is None else allowed
    return [finding for finding in broken(graph) if not any(one.covers(finding) for one in excepted)]


def broken(graph: Graph) -> Iterable[Finding]:
    """What the rules say, exceptions not counted."""
    return [finding for rule in RULES for finding in rule(graph)]
