"""One thing that was looked at on the way into a phase."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.errors import TrellisError


@dataclass(frozen=True, slots=True)
class Look:
    """`ok` is None where a program cannot see it: `todo` is then what a person does, as it is where it is not ok."""

    name: str
    ok: bool | None
    why: str
    todo: str = ""


async def looked(name: str, look: Callable[[], Awaitable[Look]], todo: str) -> Look:
    """A look that fails is one that is not ok, with the failure's sentence."""
    try:
        return await look()
    except TrellisError as error:
        return Look(name, False, error.detail, todo)
