"""A streamed chat completion, put together from its events.

Shape: OpenAI, "Streaming events of chat completions" (API reference, `chat.completion.chunk`), and how other
servers differ: tool calls without an index, arguments as objects, usage in every chunk, errors in the middle.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import orjson

from app.agent.model import ModelReply, ModelRequest, Written
from app.agent.wire import argument_text, error_code, tool_call, usage_of

_DONE: Final = b"[DONE]"


class ProviderError(ValueError):
    """The provider sent an error in place of a chunk: its code ("" where it has none), and its HTTP status."""

    def __init__(self, code: str, status: int | None) -> None:
        super().__init__(code)
        self.code = code
        self.status = status


class CutOff(ValueError):
    """The stream ended before the answer did."""


class StreamedReply:
    """The chunks of one answer so far.

    `written` is what they hold, text and tool calls; `said`: there is text among it; `size` counts the bytes that
    were read; `whole`: the answer has its end.
    """

    __slots__ = ("_calls", "_finish_reason", "_model", "_text", "_usage", "said", "size", "whole", "written")

    def __init__(self) -> None:
        self.written = Written()
        self.said = False
        self.size = 0
        self.whole = False
        self._text: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._usage: Mapping[str, Any] | None = None
        self._model = ""
        self._finish_reason = ""

    def add(self, data: bytes) -> str:
        """Takes one event's data in; the text that it adds, "" where it adds none.

        Raises ProviderError, and ValueError where the data is no chunk of a chat completion.
        """
        if data == _DONE:
            self.whole = True
            return ""
        chunk = orjson.loads(data)
        if not isinstance(chunk, dict):
            raise ValueError("not an object")
        if chunk.get("error") is not None:
            raise _provider_error(data, chunk["error"])
        try:
            return self._take(chunk)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError("not a chunk of a chat completion") from error

    def end(self, rest: list[bytes]) -> str:
        """Takes in what came last without a proper end, where it can be read; the text that it adds.

        Raises CutOff where the answer is not whole then.
        """
        text = ""
        with suppress(ValueError):
            for data in rest:
                text += self.add(data)
        if not self.whole:
            raise CutOff("the answer is not whole")
        return text

    def reply(self, request: ModelRequest, model: str, duration_s: float) -> ModelReply:
        """The whole answer. Raises ValueError where a tool call has no name, or the usage is not in numbers."""
        text = "".join(self._text)
        try:
            calls = tuple(tool_call(call, index) for index, call in enumerate(self._calls))
            usage = usage_of(self._usage, request, text, calls)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not a chat completion") from error
        return ModelReply(text, calls, usage, self._model or model, self._finish_reason or "stop", duration_s)

    def _take(self, chunk: Mapping[str, Any]) -> str:
        if not self._model:
            self._model = str(chunk.get("model") or "")
        self._usage = chunk.get("usage") or self._usage
        choices = chunk.get("choices")
        if not choices or choices[0].get("index"):
            return ""
        choice = choices[0]
        if choice.get("finish_reason"):
            self._finish_reason = str(choice["finish_reason"])
            self.whole = True
        delta = choice.get("delta") or {}
        for call in delta.get("tool_calls") or ():
            self._add_call(call)
        return self._add_text(delta.get("content") or delta.get("refusal") or "")

    def _add_text(self, text: Any) -> str:
        if not isinstance(text, str):
            raise TypeError("content")
        if text:
            self.said = True
            self._text.append(text)
            self.written.add(text)
        return text

    def _add_call(self, part: Mapping[str, Any]) -> None:
        function = part.get("function") or {}
        call = self._call(part, function.get("name"))
        arguments = argument_text(function.get("arguments") or "")
        if arguments:
            call["function"]["arguments"] += arguments
            self.written.add(arguments)

    def _call(self, part: Mapping[str, Any], name: str | None) -> dict[str, Any]:
        """The call that a part goes on with, or a new one.

        Some servers give no index, or the same to every call: a part with a name and an id of its own begins one.
        """
        call_id, index = part.get("id"), part.get("index")
        known = [call for call in self._calls if index is None or call["index"] == index]
        if known and not (name and call_id and known[-1]["id"] and call_id != known[-1]["id"]):
            call = known[-1]
        else:
            call = {"index": index, "id": None, "function": {"arguments": ""}}
            self._calls.append(call)
        call["id"] = call["id"] or call_id
        if name and "name" not in call["function"]:
            call["function"]["name"] = name
            self.written.add(name)
        return call


def _provider_error(data: bytes, error: Any) -> ProviderError:
    stated = error.get("code") if isinstance(error, dict) else None
    status = stated if isinstance(stated, int) else None
    return ProviderError(error_code(data), status)
