"""What a team says of its stacks, in `infra/stacks/Pulumi.<stack>.yaml`, read as an engine would pass it on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from infra.errors import InfraError
from infra.layout import StackName
from infra.phases import PHASES

STACKS: Final = Path(__file__).parent / "stacks"
UNREADABLE: Final = "encrypted-and-unread"
"""Stands for what is encrypted: only the engine has the key."""


@dataclass(frozen=True, slots=True)
class Configured:
    """Texts by full key (`trellis:domain`), and which of the keys are encrypted in the file."""

    texts: Mapping[str, str]
    encrypted: frozenset[str] = frozenset()


def stack_files(folder: Path = STACKS) -> Mapping[str, Path]:
    """By name of the stack: the files that there are."""
    return {path.stem.removeprefix("Pulumi."): path for path in sorted(folder.glob("Pulumi.*.yaml"))}


def file_of(stack: StackName, folder: Path = STACKS) -> Path:
    """Raises InfraError where it has none."""
    path = stack_files(folder).get(str(stack))
    if path is None:
        like = lender(stack, folder)
        template = f"Pulumi.{like}.yaml" if like else "one of the others"
        raise InfraError(
            f"The stack '{stack}' has no file: copy {template} of infra/stacks to Pulumi.{stack}.yaml and look at each "
            "value (the network of each region is its own)."
        )
    return path


def lender(stack: StackName, folder: Path = STACKS) -> StackName | None:
    """The stack whose file a plan takes for one in another region that has none: the phase's own first region's."""
    if stack.phase is None or not stack.region:
        return None
    like = StackName(stack.phase, PHASES[stack.phase].fleet.regions[0], stack.layer)
    return like if like != stack and str(like) in stack_files(folder) else None


def configured(path: Path) -> Configured:
    """Raises InfraError for a file that is not one, or a value that is no text."""
    try:
        found = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise InfraError(f"{path.name} cannot be read: {str(error).splitlines()[0]}.") from None
    values = (found.get("config") or {}) if isinstance(found, dict) else None
    if not isinstance(values, dict):
        raise InfraError(f"{path.name} is no stack's file: it has to have `config:` with a line for each setting.")
    encrypted = frozenset(key for key, value in values.items() if _encrypted(value))
    return Configured({key: _text(path, key, value) for key, value in values.items()}, encrypted)


def _encrypted(value: object) -> bool:
    return isinstance(value, dict) and set(value) == {"secure"}


def _text(path: Path, key: str, value: Any) -> str:
    if _encrypted(value):
        return UNREADABLE
    if isinstance(value, dict | list) or value is None:
        raise InfraError(f"{path.name}: {key} is no plain text: a list is written with commas, nothing is left empty.")
    return str(value).lower() if isinstance(value, bool) else str(value)
