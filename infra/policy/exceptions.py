"""What may break a rule, and why: `exceptions.yaml`."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from infra.errors import InfraError
from infra.policy.finding import Finding

FILE: Final = Path(__file__).parent / "exceptions.yaml"
_FIELDS: Final = frozenset({"rule", "resource", "stack", "about", "reason"})


@dataclass(frozen=True, slots=True)
class Allowance:
    """`resource` is `type::name`; it, `stack` and `about` (the finding's sentence) may have `*` for anything."""

    rule: str
    resource: str
    reason: str
    stack: str = "*"
    about: str = "*"

    def covers(self, finding: Finding) -> bool:
        kind, _, name = finding.urn.rpartition("::")
        resource = f"{kind.rpartition('::')[2].rpartition('$')[2]}::{name}"
        return (
            finding.rule == self.rule
            and fnmatchcase(resource, self.resource)
            and fnmatchcase(finding.stack, self.stack)
            and fnmatchcase(finding.sentence, self.about)
        )


@cache
def written(file: Path = FILE) -> Sequence[Allowance]:
    """Raises InfraError for one that says too little, or something unknown."""
    return tuple(_one(given, file) for given in yaml.safe_load(file.read_text())["exceptions"])


def _one(given: dict[str, Any], file: Path) -> Allowance:
    if not {"rule", "resource", "reason"} <= given.keys() <= _FIELDS or not all(map(_text, given.values())):
        raise InfraError(
            f"An exception in {file.name} needs a rule, a resource and a reason (stack and about if you like): {given}."
        )
    return Allowance(**given)


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
