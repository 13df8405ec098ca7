"""Server-sent events as a browser reads them."""

from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True)
class Sent:
    id: str
    name: str
    data: Any


def events_of(body: bytes | str) -> list[Sent]:
    """The whole events of a body; what was cut off at its end is left out."""
    text = body.decode() if isinstance(body, bytes) else body
    found = []
    for block in text.split("\n\n")[:-1]:
        lines = [line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":")]
        fields = dict(lines)
        if "event" in fields:
            found.append(Sent(fields["id"], fields["event"], orjson.loads(fields["data"])))
    return found


def text_of(events: list[Sent]) -> str:
    return "".join(event.data["text"] for event in events if event.name == "token")
