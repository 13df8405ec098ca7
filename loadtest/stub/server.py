"""An OpenAI-compatible endpoint on loopback that can do what real ones do wrong; counts what it was asked.

Shape: OpenAI, "Create chat completion" (API reference). It enforces the path, the key, the content type and the
required members, and answers a wrong request as OpenAI does. It speaks HTTP/1.1 itself, in a few lines, because
it stands beside what is measured and must cost little.

As a process of its own: `python -m loadtest.stub.server PORT` (0 takes a free one) prints its address;
`GET /count` says what it was asked so far.
"""

import argparse
import asyncio
import random
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

import orjson
import uvloop

from loadtest.stub.answers import Answer, Message, completion, events, pieces, text, tool_calls, tool_then_text
from loadtest.stub.checks import KEY, RESET, Fault, error, refusal

__all__ = ["KEY", "RESET", "Answer", "Cut", "Fault", "Latency", "ModelStub", "error", "text", "tool_calls"]

USAGE: Mapping[str, Any] = {
    "prompt_tokens": 30,
    "completion_tokens": 12,
    "total_tokens": 42,
    "prompt_tokens_details": {"cached_tokens": 10},
}
KINDS = ("reset", "eof", "error", "stall", "429", "slow")
SLOW_S = 5.0


@dataclass(frozen=True)
class Cut:
    """How the next streamed answer dies, after so many events: `stall` falls silent and stays open."""

    how: Literal["reset", "eof", "error", "stall"]
    after: int = 3
    error: Mapping[str, Any] = field(default_factory=lambda: {"message": "overloaded", "code": "server_error"})


class Latency:
    """Waits in seconds, before the first event and before each other one; `spread` 0.2 varies them by a fifth.

    The same seed gives the same waits.
    """

    def __init__(self, first_s: float = 0.0, piece_s: float = 0.0, *, spread: float = 0.0, seed: int = 0) -> None:
        self.zero = not first_s and not piece_s
        self._first_s, self._piece_s, self._spread = first_s, piece_s, spread
        self._random = random.Random(seed)

    def of(self, pieces: int) -> list[float]:
        means = [self._first_s, *[self._piece_s] * (pieces - 1)]
        return [mean * self._random.uniform(1 - self._spread, 1 + self._spread) for mean in means]


@dataclass
class ModelStub:
    """`async with ModelStub() as stub:` serves `stub.url` (up to `/v1`).

    `refuses` names members and response formats that this endpoint does not take: `max_tokens`, `temperature`,
    `stream`, `stream_options`, `cache_control`, `json_schema`, `json_object`. `usage` None: it counts no tokens.
    `streams` False: it answers a streamed request whole. `faults` are for the next requests, `cuts` for the next
    streams. `chances` are shares of requests (0 to 1) that go wrong by themselves, by kind (`KINDS`). `left` counts
    the requests whose caller went away before the end. `keep` False: it remembers no request, however many come.
    Where there is a `gate`, nothing is answered until it is set.
    """

    answer: Answer = field(default_factory=lambda: text("Hello."))
    usage: Mapping[str, Any] | None = field(default_factory=lambda: USAGE)
    refuses: frozenset[str] = frozenset()
    streams: bool = True
    latency: Latency = field(default_factory=Latency)
    faults: list[Fault] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    chances: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    port: int = 0
    keep: bool = True
    gate: asyncio.Event | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    calls: int = 0
    answered: int = 0
    connections: int = 0
    left: int = 0
    url: str = ""

    async def __aenter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._open: set[_Connection] = set()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self, self._open), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        for connection in list(self._open):
            connection.drop()
        await self._server.wait_closed()

    def count(self) -> dict[str, Any]:
        """What it was asked so far; `cpu_s`: seconds of processor that its process has used."""
        return {
            "calls": self.calls,
            "answered": self.answered,
            "connections": self.connections,
            "left": self.left,
            "cpu_s": time.process_time(),
        }

    def said(self, body: Mapping[str, Any]) -> tuple[Message, Mapping[str, Any] | None]:
        """The answer to a request, and its usage; asked for once for each."""
        return self.answer(body), self.usage

    def written(self, body: Mapping[str, Any]) -> bytes:
        return completion(body, *self.said(body), self.answered)

    async def whole(self, body: Mapping[str, Any]) -> bytes:
        """A whole answer, once the time has passed that writing it takes."""
        message, usage = self.said(body)
        await asyncio.sleep(sum(self.latency.of(pieces(message))))
        return completion(body, message, usage, self.answered)

    def trouble(self) -> Fault | Cut | None:
        """What goes wrong with the request that came just now."""
        if self.faults:
            return self.faults.pop(0)
        for kind, share in self.chances.items():
            if self._random.random() < share:
                return _trouble(kind)
        return None

    def take(self, headers: Mapping[str, str], raw: bytes) -> tuple[dict[str, Any], Fault | None]:
        """The body of a request and why it is refused; what is taken is kept in `asked` where `keep` is set."""
        try:
            body = orjson.loads(raw)
        except ValueError:
            body = None
        refused = refusal(headers, body, self.refuses)
        if refused is None:
            self.answered += 1
            if self.keep:
                self.asked.append(body)
        return body, refused


class _Connection(asyncio.Protocol):
    """One connection: a request at a time, answered at once where nothing has to be waited for."""

    def __init__(self, stub: ModelStub, open_ones: "set[_Connection]") -> None:
        self._stub = stub
        self._open = open_ones
        self._received = b""
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self)
        self._stub.connections += 1

    def connection_lost(self, _error: Exception | None) -> None:
        self._open.discard(self)
        if self._answering is not None and not self._answering.done():
            self._stub.left += 1
            self._answering.cancel()

    def drop(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        line, *lines = self._received[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        whole = end + 4 + int(headers.get("content-length", 0))
        if len(self._received) < whole:
            return
        raw, self._received = self._received[end + 4 : whole], self._received[whole:]
        self._handle(line, headers, raw)

    def _handle(self, line: str, headers: Mapping[str, str], raw: bytes) -> None:
        if line.startswith("GET /count "):
            self._send(200, orjson.dumps(self._stub.count()))
            return
        if not line.startswith("POST /v1/chat/completions "):
            self._send(404, b'{"error": {"message": "not found"}}')
            return
        self._stub.calls += 1
        if self._stub.keep:
            self._stub.headers.append(headers)
        trouble = self._stub.trouble()
        at_once = self._stub.latency.zero and not self._stub.cuts and self._stub.gate is None
        if trouble is None and at_once:
            self._answer_at_once(headers, raw)
        else:
            self._answering = asyncio.ensure_future(self._answer(headers, raw, trouble))

    def _answer_at_once(self, headers: Mapping[str, str], raw: bytes) -> None:
        body, refused = self._stub.take(headers, raw)
        if refused is not None:
            self._send(refused.status, refused.body, refused.headers)
        elif body.get("stream") and self._stub.streams:
            sent = b"".join(_event(data) for data in (*self._events(body), b"[DONE]"))
            self._transport.write(_CHUNKED_HEAD + _chunk(sent) + _LAST_CHUNK)
        else:
            self._send(200, self._stub.written(body))

    async def _answer(self, headers: Mapping[str, str], raw: bytes, trouble: Fault | Cut | None) -> None:
        if self._stub.gate is not None:
            await self._stub.gate.wait()
        if isinstance(trouble, Fault):
            await asyncio.sleep(trouble.delay_s)
            if trouble.status == 0:
                self._reset()
                return
            if trouble.status != 200 or trouble.body:
                self._send(trouble.status, trouble.body, trouble.headers)
                return
        body, refused = self._stub.take(headers, raw)
        if refused is not None:
            self._send(refused.status, refused.body, refused.headers)
        elif body.get("stream") and self._stub.streams:
            cut = trouble if isinstance(trouble, Cut) else self._stub.cuts.pop(0) if self._stub.cuts else None
            await self._stream(self._events(body), cut)
        else:
            self._send(200, await self._stub.whole(body))

    async def _stream(self, datas: list[bytes], cut: Cut | None) -> None:
        # Only an answer that has neither a length nor chunks ends properly where its connection does.
        chunked = cut is None or cut.how != "eof"
        self._transport.write(_CHUNKED_HEAD if chunked else _CLOSING_HEAD)
        clock, waits = asyncio.get_running_loop().time, self._stub.latency.of(len(datas))
        due = clock()
        for data, wait in zip(datas[: cut.after if cut else None], waits, strict=False):
            due += wait
            # Each by the time since the first: what one wait was too long, the next is shorter.
            if wait and (left := due - clock()) > 0:
                await asyncio.sleep(left)
            self._transport.write(_chunk(_event(data)) if chunked else _event(data))
        if cut is None:
            self._transport.write(_chunk(_event(b"[DONE]")) + _LAST_CHUNK)
        elif cut.how == "error":
            self._transport.write(_chunk(_event(orjson.dumps({"error": cut.error}))) + _LAST_CHUNK)
        elif cut.how == "stall":
            await asyncio.Event().wait()
        elif cut.how == "reset":
            # What was written has to be read first: a reset throws away what waits in the receiver's buffer.
            await asyncio.sleep(0.05)
            self._reset()
        else:
            self._transport.close()

    def _reset(self) -> None:
        at_once = struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self._transport.abort()

    def _events(self, body: Mapping[str, Any]) -> list[bytes]:
        return list(events(body, *self._stub.said(body), self._stub.answered))

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = (
            f"HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        )
        self._transport.write(head.encode() + body)


_CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_CLOSING_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


_LAST_CHUNK = b"0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(data: bytes) -> bytes:
    return b"data: %s\n\n" % data


def _trouble(kind: str) -> Fault | Cut:
    if kind == "429":
        return error(429, "Rate limit reached.", code="rate_limit_exceeded", Retry_After="1")
    if kind == "slow":
        return Fault(delay_s=SLOW_S)
    return Cut(kind)  # type: ignore[arg-type]


async def serve(stub: ModelStub) -> None:
    async with stub:
        print(stub.url, flush=True)
        await asyncio.Event().wait()


def chances(parser: argparse.ArgumentParser, given: Iterable[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for item in given:
        kind, _, share = item.partition("=")
        if kind not in KINDS:
            parser.error(f"there is no fault '{kind}': choose of {', '.join(KINDS)}")
        found[kind] = float(share)
    return found


def main() -> None:
    parser = argparse.ArgumentParser("python -m loadtest.stub.server", description="A model endpoint that is none.")
    parser.add_argument("port", type=int)
    parser.add_argument("--words", type=int, default=20, help="length of an answer")
    parser.add_argument("--cite", action="store_true", help="end an answer with the first passage's mark")
    parser.add_argument("--tool", action="store_true", help="call the first tool that is offered, then answer")
    parser.add_argument("--first-ms", type=float, default=0.0)
    parser.add_argument("--piece-ms", type=float, default=0.0)
    parser.add_argument("--spread", type=float, default=0.0, help="of the waits, 0 to 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", action="append", default=[], metavar="KIND=SHARE", help=", ".join(KINDS))
    given = parser.parse_args()
    content = " ".join(["word"] * given.words) + (" [1]" if given.cite else "")
    latency = Latency(given.first_ms / 1000, given.piece_ms / 1000, spread=given.spread, seed=given.seed)
    stub = ModelStub(
        tool_then_text(content) if given.tool else text(content),
        latency=latency,
        chances=chances(parser, given.fault),
        seed=given.seed,
        port=given.port,
        keep=False,
    )
    uvloop.run(serve(stub))


if __name__ == "__main__":
    main()
