"""What a rule says against a resource."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from infra.recording import Graph, Resource

UNKNOWN: Final = "[unknown]"
"""Stands for what an engine does not know before a resource is made."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """`sentence` names what is wrong and what to do."""

    stack: str
    urn: str
    rule: str
    sentence: str


Said = Iterable[tuple[Resource, str]]
"""What is said, and of which resource."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Pure: of one stack's graph alone. `source` is where the rule comes from.

    `offline` rules read what only a recorded graph has: which inputs are marked secret.
    """

    name: str
    source: str
    says: Callable[[Graph], Said]
    offline: bool = False

    def __call__(self, graph: Graph) -> Iterable[Finding]:
        return [Finding(graph.stack, one.urn, self.name, sentence) for one, sentence in self.says(graph)]


def rule(name: str, source: str, *, offline: bool = False) -> Callable[[Callable[[Graph], Said]], Rule]:
    """Makes a rule of a function that says what is wrong."""
    return lambda says: Rule(name, source, says, offline)
