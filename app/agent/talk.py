"""An agent that answers in free text: what it is, what happens while it does, and what came of it."""

from dataclasses import dataclass

from app.agent.budgets import NO_CAPS, Caps
from app.agent.model import TextDelta, Usage
from app.agent.tools import ToolOutcome


@dataclass(frozen=True, slots=True)
class TalkSpec:
    """One agent: the tools that the model may ask for, the model route, and its bounds.

    `max_steps` counts model calls; the last one is made without tools. `caps` bounds all calls of a turn
    together, `max_tokens` each answer. `pack` is whose cost they are, where that is not the name.
    """

    name: str
    tools: tuple[str, ...]
    route: str
    max_steps: int = 4
    caps: Caps = NO_CAPS
    max_tokens: int = 800
    temperature: float = 0.0
    pack: str = ""


@dataclass(frozen=True, slots=True)
class TextReset:
    """What was said so far was not the answer: the model goes on to use tools."""


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """`call_id` is unique in its turn; `tool` is what the model called it, at most 64 characters."""

    call_id: str
    tool: str


@dataclass(frozen=True, slots=True)
class ToolEnded:
    call_id: str
    outcome: ToolOutcome


@dataclass(frozen=True, slots=True)
class TalkResult:
    """The answer and what it took; times in milliseconds.

    `text` is that of the last step. `finish_reason` is the provider's word: `length` where `max_tokens` cut the
    answer off. `steps` is the number of model calls; `usage` and `cost_micros` are of all of them, `model`,
    `provider` and `route` those of the last. `model_ms` is the time that model calls were open.
    """

    text: str
    finish_reason: str
    steps: int
    tool_outcomes: tuple[ToolOutcome, ...]
    usage: Usage
    cost_micros: int
    model: str
    provider: str
    route: str
    model_ms: float
    duration_ms: float


StepItem = TextDelta | TextReset | ToolStarted | ToolEnded
TalkItem = StepItem | TalkResult
