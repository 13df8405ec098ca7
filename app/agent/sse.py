"""Server-sent events as a client reads them: the data of each event, however the bytes were cut on their way.

Format: WHATWG, "Server-sent events", section "Parsing an event stream".
"""

from typing import Final

MAX_EVENT_BYTES: Final = 1 << 20


class EventTooLong(ValueError):
    """An event of more than MAX_EVENT_BYTES."""


class EventParser:
    """Feed it bytes as they come. Comments, names, ids and waiting times of events are passed over."""

    __slots__ = ("_data", "_rest", "_size")

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that the chunk ends; lines may end in LF, CRLF or CR. Raises EventTooLong."""
        if b"\n" not in chunk and b"\r" not in chunk and not self._rest_may_end():
            self._keep(chunk)
            return []
        text = b"".join((*self._rest, chunk))
        self._rest.clear()
        held = b""
        if b"\r" in text:
            # A CR at the end may be the first half of a CRLF.
            if text.endswith(b"\r"):
                text, held = text[:-1], b"\r"
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        events = self._events(lines)
        self._size = sum(map(len, self._data))
        self._keep(rest + held)
        return events

    def close(self) -> list[bytes]:
        """The event that the stream's end cut off, where it had data."""
        return self.feed(b"\n\n")

    def _rest_may_end(self) -> bool:
        return bool(self._rest) and self._rest[-1].endswith(b"\r")

    def _keep(self, part: bytes) -> None:
        if part:
            self._rest.append(part)
            self._size += len(part)
        if self._size > MAX_EVENT_BYTES:
            raise EventTooLong(f"an event of more than {MAX_EVENT_BYTES} bytes")

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data.clear()
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif line == b"data":
                self._data.append(b"")
        return events
