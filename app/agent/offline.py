"""The offline model: deterministic rules behind the same protocol as a real provider. It is not a language model."""

import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Final

from app.agent.model import (
    ModelError,
    ModelReply,
    ModelRequest,
    TextDelta,
    ToolCall,
    Usage,
    estimate_input_tokens,
    estimate_tokens,
)

OFFLINE: Final = "offline"
_WORD = re.compile(r"\s*\S+|\s+$")

OfflineRule = Callable[[ModelRequest], str | tuple[ToolCall, ...]]


class OfflineModel:
    """Answers each request by the rule of its prompt, from `request.facts` and the messages.

    A rule returns the answer's text, or the tool calls that it wants first. Tokens are estimated
    (`estimate_tokens`); the price list has the provider at no cost.
    """

    provider = OFFLINE
    model = OFFLINE

    def __init__(self, rules: Mapping[str, OfflineRule]) -> None:
        self._rules = dict(rules)

    async def complete(self, request: ModelRequest, *, timeout_s: float) -> ModelReply:  # noqa: ARG002
        """Raises ModelError where no rule is declared for the prompt, or where the rule fails."""
        started = time.perf_counter()
        rule = self._rules.get(request.prompt)
        if rule is None:
            raise ModelError(
                f"The offline model has no rule for the prompt '{request.prompt}': declare one in its pack.",
                retryable=False,
            )
        try:
            result = rule(request)
        except Exception as error:
            raise ModelError(
                f"The offline rule of the prompt '{request.prompt}' failed ({type(error).__name__}).", retryable=False
            ) from error
        return _reply(request, result, time.perf_counter() - started)

    async def stream(self, request: ModelRequest, *, timeout_s: float) -> AsyncGenerator[TextDelta | ModelReply, None]:
        """The same reply, word by word."""
        reply = await self.complete(request, timeout_s=timeout_s)
        for word in _WORD.findall(reply.text):
            yield TextDelta(word)
        yield reply


def _reply(request: ModelRequest, result: str | tuple[ToolCall, ...], duration_s: float) -> ModelReply:
    text, calls = (result, ()) if isinstance(result, str) else ("", result)
    written = estimate_tokens(text) + sum(estimate_tokens(call.name + call.arguments) for call in calls)
    return ModelReply(
        text=text,
        tool_calls=calls,
        usage=Usage(estimate_input_tokens(request), written),
        model=OFFLINE,
        finish_reason="tool_calls" if calls else "stop",
        duration_s=duration_s,
    )
