"""Answers that this process has at hand: the edge sends them by itself, without routing, endpoint or task.

Nothing else is skipped: whoever asks was authenticated and counted, the body was bounded and checked, and the answer
gets the headers, the log line and the metrics of any other.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.principal import Principal


class PathPattern:
    """A path, one part of which may be any (`/v1/bots/{bot}/chat`)."""

    def __init__(self, template: str) -> None:
        self.template = template
        self._start, brace, rest = template.partition("{")
        self._end = rest.partition("}")[2]
        self._whole = not brace

    def part(self, path: str) -> str | None:
        """What stands where the braces are, "" where there are none; None for another path."""
        if self._whole:
            return "" if path == self._start else None
        end = len(path) - len(self._end)
        if end < len(self._start) or not (path.startswith(self._start) and path.endswith(self._end)):
            return None
        part = path[len(self._start) : end]
        return part if "/" not in part else None


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A POST of JSON to `template`, a route's path, that may have its whole answer at hand.

    `peek(principal, part, body)`: `part` is what stands in the template's braces, `body` the parsed JSON. It awaits
    nothing, and gives the bytes of the JSON that the route would answer 200 with, or None: the route then sees the
    request as if nobody had looked, and says what is wrong where something is. A request for an event stream never
    comes here. Only for paths that need a key.
    """

    template: str
    peek: Callable[[Principal, str, Any], bytes | None]
    pattern: PathPattern = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", PathPattern(self.template))
