"""What goes to a model and what comes back, the same for every provider."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, Protocol

from app.errors import TrellisError

ModelRole = Literal["system", "user", "assistant", "tool"]
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for; `arguments` is the JSON text that it wrote, valid or not."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `tool_calls` only from the assistant; `tool_call_id` only on a tool's answer."""

    role: ModelRole
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it; `schema` is the JSON Schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `cached_tokens` is the part of `input_tokens` that the provider had in its own prompt cache."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0

    @property
    def total(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
        )


NOTHING_USED: Final = Usage(0, 0)


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call to a model.

    `prompt` and `prompt_version` say which prompt made the messages, `pack` whose cost the call is. `facts` is the
    structured form of the same input, for the offline model alone: it never goes on the wire. `max_tokens` bounds the
    answer.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    answer_schema: Mapping[str, Any] | None = None
    temperature: float = 0.0
    max_tokens: int = 800
    prompt: str = ""
    prompt_version: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    pack: str = ""


@dataclass(frozen=True, slots=True)
class ModelReply:
    """One answer. `model` is the name that the provider gives; `finish_reason` is its word; `duration_s` seconds."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    model: str
    finish_reason: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of an answer's text, never empty."""

    text: str


class ModelClient(Protocol):
    """One model of one provider.

    `complete` raises ModelError, and nothing else but cancellation, within `timeout_s` seconds.

    `stream` gives the text piece by piece and the whole reply last; the pieces together are the reply's text.
    `timeout_s` is the time to its end. It raises ModelError as `complete` does before the first piece, and
    ModelStreamBroken after it. Closing it, or cancelling who waits for it, ends the call at the provider.
    """

    @property
    def provider(self) -> str: ...

    @property
    def model(self) -> str: ...

    async def complete(self, request: ModelRequest, *, timeout_s: float) -> ModelReply: ...

    def stream(self, request: ModelRequest, *, timeout_s: float) -> AsyncGenerator[TextDelta | ModelReply, None]: ...


class ModelError(TrellisError):
    """One provider did not answer.

    Args:
        detail: one sentence without the provider's own text, which may quote the prompt or the key.
        retryable: whether the same call may succeed by itself later.
        retry_after: seconds that the provider asks to wait, where it says so.
        status: the provider's HTTP status, kept as `upstream_status`: it is not the status of our own answer.
        usage: what the call had used when it failed, where it had begun to answer.
    """

    status: ClassVar[int] = 502
    code: ClassVar[str] = "model-error"
    title: ClassVar[str] = "The model did not answer"

    def __init__(
        self,
        detail: str,
        *,
        retryable: bool,
        retry_after: float | None = None,
        status: int | None = None,
        usage: Usage = NOTHING_USED,
    ) -> None:
        super().__init__(detail)
        self.retryable = retryable
        self.retry_after = retry_after
        self.upstream_status = status
        self.usage = usage


class ModelTimeout(ModelError):
    """One provider did not answer in its time."""

    def __init__(self, provider: str, seconds: float) -> None:
        super().__init__(f"The provider '{provider}' did not answer within {seconds:.1f} s.", retryable=True)


class ModelStreamBroken(ModelError):
    """An answer broke off after a part of it was given: it is not asked for again, and the part is paid for."""

    code: ClassVar[str] = "model-stream-broken"
    title: ClassVar[str] = "The model broke off its answer"


def estimate_tokens(text: str) -> int:
    """Tokens of a text, estimated at four characters a token, rounded up.

    The rule of thumb of OpenAI's "What are tokens and how to count them?" for English text; other scripts
    need more, so a budget that is reserved by it is settled by the provider's count afterwards.
    """
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def estimate_input_tokens(request: ModelRequest) -> int:
    """Tokens of all that the request sends: messages, tool calls in them, tool schemas, the answer's schema."""
    characters = 0
    for message in request.messages:
        characters += len(message.content)
        for call in message.tool_calls:
            characters += len(call.name) + len(call.arguments)
    for tool in request.tools:
        characters += len(tool.name) + len(tool.description) + len(str(tool.schema))
    if request.answer_schema is not None:
        characters += len(str(request.answer_schema))
    return -(-characters // CHARACTERS_PER_TOKEN)


class Written:
    """What a model has written so far of an answer, estimated while nobody has counted it.

    A piece is a token at least: providers send one token a piece or more, and in scripts other than Latin four
    characters are more than one token.
    """

    __slots__ = ("characters", "pieces")

    def __init__(self) -> None:
        self.characters = 0
        self.pieces = 0

    def add(self, text: str) -> None:
        self.characters += len(text)
        self.pieces += 1

    def usage(self, request: ModelRequest) -> Usage:
        """Of the whole call: all of its input, and the output so far."""
        written = max(self.pieces, -(-self.characters // CHARACTERS_PER_TOKEN))
        return Usage(estimate_input_tokens(request), written)
