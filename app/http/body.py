"""The body at the edge: bounded while it streams in, hashed where it may be repeated, checked where it is JSON."""

import hashlib
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from app.errors import UnsupportedMedia
from app.http.strict import refuse_nul_form, strict_json

_FORM = b"application/x-www-form-urlencoded"


class BodyGuard:
    """Stands between the server and the app for one request's body.

    Counts the bytes that arrive, whatever Content-Length said, and raises 413 beyond `limit`. JSON and URL-encoded
    forms are read whole and checked before the app runs; any other type passes through in its chunks. `json` is the
    value of a JSON body once `prepare` returned.
    """

    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._buffered: Message | None = None
        self.size = 0
        self.complete = False
        self.json: Any = None
        self._type, length, key, self._encoding = _headers(scope)
        self._hash = hashlib.sha256() if key else None
        if length is not None and length > limit:
            raise self._too_large()

    async def prepare(self) -> Receive:
        """The `receive` for the app.

        Raises HTTPException 413, UnsupportedMedia for a compressed body, and Malformed or InvalidInput where a JSON
        body or a form cannot be accepted.
        """
        if self._encoding not in (b"", b"identity"):
            said = self._encoding.decode("latin-1")[:40]
            raise UnsupportedMedia(f"The body's Content-Encoding is '{said}': send it as it is, not compressed.")
        is_json = _is_json(self._type)
        if is_json or self._type == _FORM:
            body = await self._read_all()
            if is_json and body:
                self.json = strict_json(body)
            elif not is_json:
                refuse_nul_form(body)
            self._buffered = {"type": "http.request", "body": body, "more_body": False}
        return self.receive

    def digest(self) -> bytes:
        """SHA-256 of the whole body; kept only for requests with an Idempotency-Key, once `complete`."""
        assert self._hash is not None
        assert self.complete
        return self._hash.digest()

    async def receive(self) -> Message:
        """The next message, counted and hashed."""
        if self._buffered is not None:
            message, self._buffered = self._buffered, None
            return message
        message = await self._receive()
        if message["type"] == "http.request":
            self._take(message)
        return message

    def _take(self, message: Message) -> None:
        chunk = message.get("body", b"")
        self.size += len(chunk)
        if self.size > self._limit:
            raise self._too_large()
        if self._hash is not None:
            self._hash.update(chunk)
        self.complete = not message.get("more_body", False)

    async def _read_all(self) -> bytes:
        chunks = []
        while not self.complete:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise HTTPException(400, "The client went away before the body was complete.")
            self._take(message)
            chunks.append(message.get("body", b""))
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> HTTPException:
        # FastAPI turns any other error of a body that it reads itself into a 400.
        return HTTPException(413, f"The body is larger than the {self._limit} bytes that this address takes.")


def _headers(scope: Scope) -> tuple[bytes, int | None, bool, bytes]:
    """Content type, length, whether there is an Idempotency-Key, and the content's encoding."""
    kind, length, key, encoding = b"", None, False, b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
        elif name == b"content-length" and value.isdigit():
            length = int(value[:20])
        elif name == b"idempotency-key":
            key = True
        elif name == b"content-encoding":
            encoding = value.strip().lower()
    return kind, length, key, encoding


def _is_json(kind: bytes) -> bool:
    return kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))
