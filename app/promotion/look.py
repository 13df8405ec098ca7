"""One thing that was looked at on the way into a phase."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import stamina

from app.errors import Retryable, TrellisError

ATTEMPTS: Final = 3
AGAIN_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Look:
    """`ok` is None where a program cannot see it: `todo` is then what a person does, as it is where it is not ok."""

    name: str
    ok: bool | None
    why: str
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.why} {self.todo}".strip()


async def looked(name: str, look: Callable[[], Awaitable[Look]], todo: str) -> Look:
    """A look that fails, also when it is taken again, is one that is not ok, with the failure's sentence."""
    again = stamina.AsyncRetryingCaller(attempts=ATTEMPTS, timeout=None, wait_initial=AGAIN_S, wait_exp_base=1)
    try:
        return await again(Retryable, look)
    except TrellisError as error:
        return Look(name, False, error.detail, todo)
