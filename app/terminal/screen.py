"""What a talk looks like in a terminal."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from app.administration.events import Sent

_KEPT: Final = frozenset("\n\t")
_CACHES: Final = {
    "exact": "from the cache of answers",
    "semantic": "the answer to a question that means the same",
    "shared": "shared with the same question, asked at the same time",
}


class Screen:
    """Writes events as they come. Tokens before a tool's use were no answer; `done` holds the true text."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = ""

    def show(self, event: Sent) -> None:
        if event.name == "token":
            self._say(event.data["text"])
        elif event.name == "tool" and event.data["state"] == "started":
            self._end_line()
            self._note(f"looks up {event.data['tool']}")
        elif event.name == "done":
            self._finish(event.data)

    def stopped(self) -> None:
        self._end_line()
        self._note("stopped")

    def _say(self, text: str) -> None:
        self._said += text
        self._console.print(harmless(text), end="", markup=False, highlight=False, soft_wrap=True)

    def _end_line(self) -> None:
        if self._said:
            self._console.print()
            self._said = ""

    def _finish(self, answer: Mapping[str, Any]) -> None:
        if self._said.strip() != answer["text"].strip():
            self._end_line()
            self._say(answer["text"])
        self._end_line()
        for citation in answer["citations"]:
            self._note(citation_line(citation))
        self._note(cost_line(answer))

    def _note(self, line: str) -> None:
        self._console.print(Text(harmless(line), style="dim"), soft_wrap=True)


def citation_line(citation: Mapping[str, Any]) -> str:
    return f"[{citation['number']}] {citation['title']}{_heading(citation)} · {citation['score']:.2f}"


def _heading(citation: Mapping[str, Any]) -> str:
    heading = citation["heading"]
    return f" · {heading}" if heading and heading != citation["title"] else ""


def cost_line(answer: Mapping[str, Any]) -> str:
    """What it cost, who answered, in what time, and which cache spared what."""
    cache = _CACHES.get(answer["cache"])
    parts = [
        f"{cache}, {dollars(answer['saved_usd'])} saved" if cache else dollars(answer["cost_usd"]),
        *([f"{answer['input_tokens']} + {answer['output_tokens']} tokens"] if not cache else []),
        answer["model"] or "no model was asked",
        f"{answer['duration_ms'] / 1000:.2f} s",
        *_tools(answer["tools"]),
    ]
    return " · ".join(parts)


def dollars(amount: float) -> str:
    return f"${amount:.6f}".rstrip("0").rstrip(".") if amount else "$0"


def _tools(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(tool["tool"] for tool in tools)
    return [f"used {', '.join(names)}"] if names else []


def harmless(text: str) -> str:
    """The text without control characters: an answer must not steer the terminal."""
    return "".join(sign for sign in text if sign in _KEPT or unicodedata.category(sign) != "Cc")
