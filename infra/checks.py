"""What can be seen of a stack before anything is asked for: where it would be, beside which others."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.errors import InfraError
from infra.files import STACKS, configured, file_of, stack_files
from infra.layout import Layer, StackName
from infra.prices import load_prices
from infra.regions import region
from infra.settings import KINDS, NAMESPACE, Account, Cell, Stack, read, secrets_of, unset
from infra.settings import key as key_of

PLACEHOLDERS: Final = ("111111111111", "example.com", "Z00000000000000000000", "0" * 64)
"""What the files of a fresh clone say in the place of a team's own account, names, zone and image."""


def check(stack: Stack, folder: Path = STACKS) -> None:
    """Raises InfraError: a region that is not known or that lacks the phase's machines, or a network that overlaps
    another region's of the phase."""
    if isinstance(stack.given, Account) and stack.region:
        region(stack.region)
        prices = load_prices()
        for types in _machines(stack):
            prices.offered(stack.region, types)
    if isinstance(stack.given, Cell):
        _apart(stack, stack.given, folder)


def _machines(stack: Stack) -> Iterator[tuple[str, ...]]:
    """Types of machines, each time those of which one has to be there."""
    phase = stack.phase
    if phase.instance is not None:
        yield (phase.instance,)
    if phase.nodes is not None:
        yield (phase.nodes.bootstrap,)
        yield phase.nodes.general
        if phase.nodes.gpu:
            yield phase.nodes.gpu


def ready(stack: StackName, folder: Path = STACKS) -> None:
    """Raises InfraError where a stack's file is not filled in, so that it can be planned and cannot be made."""
    path = file_of(stack, folder)
    given = configured(path)
    left = sorted(key for key, text in given.texts.items() if any(mark in text for mark in PLACEHOLDERS))
    if left:
        raise InfraError(f"{path.name} still has what this repository came with in {', '.join(left)}: put your own.")
    for field in secrets_of(stack):
        if key_of(field) not in given.encrypted:
            raise InfraError(unset(field, str(stack)))


def _apart(stack: Stack, given: Cell, folder: Path) -> None:
    own = ipaddress.ip_network(given.cidr)
    for name, other in _neighbours(stack.name, folder):
        if own.overlaps(ipaddress.ip_network(other.cidr)):
            raise InfraError(
                f"The networks of '{stack.name}' ({given.cidr}) and '{name}' ({other.cidr}) overlap: "
                f"give one of them another {NAMESPACE}:cidr."
            )


def _neighbours(stack: StackName, folder: Path) -> Iterator[tuple[str, Cell]]:
    """The phase's cells in other regions. A stack with no file is planned instead of its phase's own, not beside."""
    files = stack_files(folder)
    for name, path in files.items() if str(stack) in files else ():
        other = StackName.parse(name)
        if other.phase is stack.phase and other.layer is Layer.INFRA and other != stack:
            found = configured(path)
            given = read(KINDS[other.layer], found.texts, found.encrypted)
            assert isinstance(given, Cell)
            yield name, given
