"""How resources are named and tagged."""

from collections.abc import Mapping
from typing import Final

from infra.settings import Stack

PREFIX: Final = "trellis"


def prefix(stack: Stack) -> str:
    """`trellis-small`: what names of a stack's resources begin with; AWS adds nothing of its own."""
    return f"{PREFIX}-{stack.phase.name}"


def tags(stack: Stack, name: str = "") -> Mapping[str, str]:
    """On every resource that takes tags: whose bill, which phase, which stack made it."""
    ours = {"project": PREFIX, "phase": stack.phase.name.value, "stack": str(stack.name), "managed-by": "pulumi"}
    return {**(stack.given.extra_tags or {}), **ours, **({"Name": name} if name else {})}
