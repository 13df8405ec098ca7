"""An agent that is asked once and whose reply is read by who asked: a part of a broken one may be of use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.agent.budgets import NO_CAPS, Caps


@dataclass(frozen=True, slots=True)
class OnceSpec:
    """One agent without tools: the JSON Schema of its answer, the model route, and its bounds.

    `pack` is whose cost the call is, where that is not the name.
    """

    name: str
    route: str
    answer_schema: Mapping[str, Any]
    max_tokens: int = 800
    caps: Caps = NO_CAPS
    tools: tuple[str, ...] = ()
    max_steps: int = 1
    pack: str = ""
