"""What happens in one turn, in order: tokens, citations and tools as they come, then `Done` or `Failed`."""

from dataclasses import dataclass
from enum import StrEnum


class CacheHit(StrEnum):
    """Which cache gave the answer; `SHARED` joined a turn that was under way."""

    NONE = "none"
    EXACT = "exact"
    SEMANTIC = "semantic"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Token:
    text: str


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that the answer cites as `[number]`; `score` 0 to 1."""

    number: int
    document_id: str
    chunk_id: str
    slug: str
    title: str
    heading: str
    score: float
    quote: str


@dataclass(frozen=True, slots=True)
class ToolUsed:
    """`state` is `started`, or how the call ended (`app.agent.tools.OutcomeState`)."""

    call_id: str
    tool: str
    state: str
    duration_ms: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished turn. Money in micro-USD, times in milliseconds.

    Args:
        refused: the knowledge held nothing that answers; the text says so.
        grounded: the text cites a passage or rests on a tool's result.
        cost_micros: what this turn was charged; 0 from a cache.
        saved_micros: what the same answer cost when it was made, where a cache gave it.
        decision_id: the stored decision that explains it; of the first one where it came from a cache.
        experiment, arm: the running experiment and the arm that the asker fell into; None where none runs.
    """

    text: str
    citations: tuple[Citation, ...]
    tools: tuple[ToolUsed, ...]
    refused: bool
    grounded: bool
    cache: CacheHit
    model: str
    provider: str
    route: str
    prompt: str
    prompt_version: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_micros: int
    saved_micros: int
    model_ms: float
    duration_ms: float
    decision_id: str
    experiment: str | None
    arm: str | None


@dataclass(frozen=True, slots=True)
class Done:
    answer: Answer


@dataclass(frozen=True, slots=True)
class Failed:
    """A turn that ended without an answer; `code`, `title` and `status` are those of the problem answer."""

    code: str
    title: str
    detail: str
    status: int
    retry_after: float | None = None
    partial: bool = False
    """Some tokens were sent: they are no answer."""


Event = Token | Citation | ToolUsed | Done | Failed
