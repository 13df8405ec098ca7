"""What a server offers and gives back, in our own types and within bounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool as its server describes it; the schemas are JSON Schema. All of it was written by others."""

    name: str
    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any] | None
    read_only: bool

    def takes_as(self, other: "RemoteTool") -> bool:
        """Whether both take and give the same, and write or read alike."""
        mine = (self.input_schema, self.output_schema, self.read_only)
        return mine == (other.input_schema, other.output_schema, other.read_only)


@dataclass(frozen=True, slots=True)
class RemoteResult:
    """What a call gave: text for a model, and JSON where the tool gives it."""

    text: str
    data: Any


def bounded(text: str, data: Any, most: int) -> RemoteResult:
    """At most `most` characters of each; data that is longer is left out and said so in the text.

    A text that only repeats the data (the specification asks servers to send both) is left out.
    """
    size = len(orjson.dumps(data)) if data is not None else 0
    if data is not None and size <= most:
        return RemoteResult("" if _repeats(text, data) else _cut(text, most), data)
    note = f"[structured data of {size} bytes left out]\n" if data is not None else ""
    return RemoteResult(note + _cut(text, most), None)


def described_bytes(kind: str, media_type: str, base64_length: int) -> str:
    """What stands for content that is no text: kind, media type, size in bytes."""
    return f"[{kind}, {media_type or 'of unknown type'}, {base64_length * 3 // 4} bytes, not passed on]"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}\n[cut: {len(text) - most} characters more]"


def _repeats(text: str, data: Any) -> bool:
    try:
        return bool(orjson.loads(text) == data)
    except orjson.JSONDecodeError:
        return False
