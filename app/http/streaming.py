"""Server-sent events that outlive a broken connection: a stream is made once, and read from any of its events on.

The format is the WHATWG HTML standard's (https://html.spec.whatwg.org/multipage/server-sent-events.html). Each event
has the id `<stream>.<number>`, numbers from 1; a client that comes back sends the last one as `Last-Event-ID`. The
first event is always `start`: it names the stream and the address to come back to.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Annotated, Final

import orjson
import structlog
from fastapi import Header
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.errors import InvalidInput, NotFound, RateLimited, Retryable, TrellisError, Unavailable
from app.http.leaving import Abandoned, first_of, gone
from app.http.problems import InternalError
from app.ids import new_id
from app.principal import Principal, Role
from app.telemetry import names, spans

MEDIA_TYPE: Final = "text/event-stream"
HEARTBEAT_S: Final = 15.0
RETRY_MS: Final = 1_000
MAX_STREAMS: Final = 2_000
MAX_USER_STREAMS: Final = 8
"""That one end user has running at the same time; a key may speak for many, and is bounded by its rate."""
MAX_STREAM_BYTES: Final = 4 << 20
MAX_KEPT_BYTES: Final = 64 << 20
"""Of finished streams together; one that is still running is bounded by `MAX_STREAM_BYTES` alone."""
_LEAST_GRACE_S: Final = 1.0
_HEARTBEAT: Final = b": \n\n"
_OPENING: Final = f"retry: {RETRY_MS}\n\n".encode()
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event: its name and a JSON document."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """Seconds: `kept_s` a finished stream may still be read, `grace_s` an unread one goes on before it is given up."""

    kept_s: float
    grace_s: float


class ShuttingDown(Unavailable):
    code, title = "shutting-down", "The server is being stopped"


class Stream:
    """The events of one answer, kept as they are sent."""

    def __init__(self, stream_id: str, owner: tuple[str, str], scope: str) -> None:
        self.id = stream_id
        self.owner = owner
        self.scope = scope
        self.size = 0
        self.ended = False
        self.settled = False
        self.readers = 0
        self.task: asyncio.Task[None] | None = None
        self.giving_up: asyncio.TimerHandle | None = None
        self._frames: list[bytes] = []
        self._moved = asyncio.Event()

    @property
    def address(self) -> str:
        """Where a client comes back to it."""
        return f"{self.scope}/streams/{self.id}"

    @property
    def length(self) -> int:
        return len(self._frames)

    def add(self, event: StreamEvent) -> None:
        """Keeps an event and wakes the readers; one that comes after the end is dropped.

        Raises Unavailable where the stream is longer than any answer.
        """
        if self.ended:
            return
        frame = b"id: %s.%d\nevent: %s\ndata: %s\n\n" % (
            self.id.encode(),
            len(self._frames) + 1,
            event.name.encode(),
            event.data,
        )
        if self.size + len(frame) > MAX_STREAM_BYTES:
            raise Unavailable("The answer is longer than a stream may be: ask for less.", retry_after=1)
        self.size += len(frame)
        self._frames.append(frame)
        self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    async def read(self, after: int) -> AsyncGenerator[bytes, None]:
        """What comes after event number `after`, several events at once where they are there; b"" while nothing comes
        for `HEARTBEAT_S` seconds. Returns at the stream's end."""
        while True:
            if after < len(self._frames):
                part = b"".join(self._frames[after:])
                after = len(self._frames)
                yield part
            elif self.ended:
                return
            else:
                moved = self._moved
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await moved.wait()
                except TimeoutError:
                    yield b""

    async def begun(self) -> None:
        """Returns with the first event, or at the end."""
        while not self._frames and not self.ended:
            await self._moved.wait()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


class Streams:
    """Every stream of this process: found again by the one who began it, given up when nobody reads it.

    Held in memory: a client that is sent to another process, or comes after `kept_s`, is told to ask again.
    """

    def __init__(self, times: StreamTimes) -> None:
        self._times = times
        self._streams: OrderedDict[str, Stream] = OrderedDict()
        self._timers: set[asyncio.TimerHandle] = set()
        self._kept_bytes = 0
        self._draining = False

    async def open(self, principal: Principal, scope: str, events: AsyncGenerator[StreamEvent, None]) -> Stream:
        """Begins a stream and returns it with its first event there; one that nobody reads then is given up.

        What `events` raises before that is raised here; later it becomes the event `error`, the last one.
        Raises ShuttingDown while the process ends, Unavailable where it has too many streams open, RateLimited where an
        end user has.
        """
        self._admit(principal)
        stream = Stream(new_id("str"), _owner(principal), scope)
        failed: list[Exception] = []
        stream.task = asyncio.create_task(self._produce(stream, events, failed), name="stream")
        self._streams[stream.id] = stream
        try:
            await stream.begun()
        except asyncio.CancelledError:
            self._forget(stream)
            stream.task.cancel()
            raise
        if failed:
            self._forget(stream)
            raise failed[0]
        self._await_readers(stream, max(self._times.grace_s, _LEAST_GRACE_S))
        return stream

    def find(self, principal: Principal, scope: str, stream_id: str) -> Stream:
        """Raises NotFound, also for a stream of somebody else."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.owner != _owner(principal) or stream.scope != scope:
            raise NotFound(
                f"There is no stream '{stream_id[:80]}': it is too old, or another server has it. Ask again."
            )
        return stream

    def response(self, stream: Stream, after: int = 0) -> "EventStreamResponse":
        return EventStreamResponse(self, stream, after)

    def enter(self, stream: Stream) -> None:
        """A reader came."""
        stream.readers += 1
        if stream.giving_up is not None:
            stream.giving_up.cancel()
            self._timers.discard(stream.giving_up)
            stream.giving_up = None

    def leave(self, stream: Stream) -> None:
        """A reader went; the last one's going gives the answer up after the time of grace."""
        stream.readers -= 1
        if stream.readers == 0 and not stream.ended:
            self._await_readers(stream, self._times.grace_s)

    def forget(self, tenant_id: str, user: str) -> int:
        """Ends every stream of a user and keeps none of their events; how many there were."""
        theirs = [stream for stream in self._streams.values() if stream.owner == (tenant_id, user)]
        for stream in theirs:
            if not stream.ended and stream.task is not None:
                self._close_with(stream, Abandoned("What is kept of you is being erased, so the answer was stopped."))
                stream.task.cancel()
            self._forget(stream)
        return len(theirs)

    async def drain(self, seconds: float) -> None:
        """Lets running streams end for so long, then ends them with an error that says why."""
        self._draining = True
        running = {stream.task for stream in self._streams.values() if stream.task and not stream.task.done()}
        if running:
            await asyncio.wait(running, timeout=max(0.0, seconds))
        for stream in self._streams.values():
            if not stream.ended:
                self._close_with(stream, _stopping())
        await self.close()

    async def close(self) -> None:
        """Ends every stream and forgets it."""
        tasks = [stream.task for stream in self._streams.values() if stream.task and not stream.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # After the tasks: each that ends sets a timer of its own.
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._streams.clear()
        self._kept_bytes = 0

    async def _produce(
        self, stream: Stream, events: AsyncGenerator[StreamEvent, None], failed: list[Exception]
    ) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    if stream.length == 0:
                        stream.add(_start(stream))
                    stream.add(event)
        except Exception as error:
            if not isinstance(error, TrellisError):
                _log.exception("stream.failed")
            if stream.length == 0:
                failed.append(error)
            else:
                self._close_with(stream, error)
        finally:
            stream.end()
            self._settle(stream)

    def _close_with(self, stream: Stream, error: Exception) -> None:
        with suppress(Unavailable):
            stream.add(error_event(error))
        stream.end()

    def _give_up(self, stream: Stream) -> None:
        if stream.readers == 0 and not stream.ended and stream.task is not None:
            # Said for the one who comes back after all: an answer never just stops.
            self._close_with(stream, Abandoned("Nobody read the answer any more, so it was stopped: ask again."))
            stream.task.cancel()

    def _admit(self, principal: Principal) -> None:
        """Makes room for one more stream. Raises ShuttingDown, Unavailable, RateLimited."""
        if self._draining:
            raise _stopping()
        if principal.role is Role.USER and self._running(_owner(principal)) >= MAX_USER_STREAMS:
            raise RateLimited(f"You have {MAX_USER_STREAMS} answers under way: wait for one of them.", retry_after=1)
        self._trim(MAX_STREAMS - 1)
        if len(self._streams) >= MAX_STREAMS:
            raise Unavailable("This server streams as many answers as it can: ask again in a moment.", retry_after=2)

    def _running(self, owner: tuple[str, str]) -> int:
        return sum(stream.owner == owner and not stream.settled for stream in self._streams.values())

    def _settle(self, stream: Stream) -> None:
        """A finished stream stays for those who come back."""
        if stream.id in self._streams:
            stream.settled = True
            self._kept_bytes += stream.size
            self._later(self._times.kept_s, lambda: self._forget(stream))
            self._trim(MAX_STREAMS)

    def _forget(self, stream: Stream) -> None:
        if self._streams.pop(stream.id, None) is not None and stream.settled:
            self._kept_bytes -= stream.size

    def _trim(self, most: int) -> None:
        """Forgets finished streams, the oldest first, while there are more than `most`, or too many bytes of them."""
        while len(self._streams) > most or self._kept_bytes > MAX_KEPT_BYTES:
            oldest = next((stream for stream in self._streams.values() if stream.settled), None)
            if oldest is None:
                return
            self._forget(oldest)

    def _await_readers(self, stream: Stream, seconds: float) -> None:
        stream.giving_up = self._later(seconds, lambda: self._give_up(stream))

    def _later(self, seconds: float, work: Callable[[], object]) -> asyncio.TimerHandle:
        def run() -> None:
            self._timers.discard(timer)
            work()

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(timer)
        return timer


class EventStreamResponse(Response):
    """Sends a stream from an event on until it ends or the client goes away."""

    media_type = MEDIA_TYPE

    def __init__(self, streams: Streams, stream: Stream, after: int) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(None, headers=headers, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._streams = streams
        self._stream = stream
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        self._streams.enter(self._stream)
        spans.note(names.LASTS, True)
        try:
            # Watched beside the sending: a model that is silent would hide a client that has gone.
            await first_of(asyncio.create_task(self._send(send)), asyncio.create_task(gone(receive)))
        finally:
            self._streams.leave(self._stream)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": _OPENING, "more_body": True})
        async with aclosing(self._stream.read(self._after)) as parts:
            async for part in parts:
                await send({"type": "http.response.body", "body": part or _HEARTBEAT, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def resume_after(stream: Stream, last_event_id: str | None) -> int:
    """The number of the last event that the client has; 0 without one. Raises InvalidInput for another stream's id."""
    if not last_event_id:
        return 0
    stream_id, _, number = last_event_id.rpartition(".")
    if stream_id != stream.id or not number.isascii() or not number.isdigit() or int(number) > stream.length:
        raise InvalidInput("'Last-Event-ID' is not the id of an event of this stream: send the last one that came.")
    return int(number)


def error_event(error: Exception) -> StreamEvent:
    """The last event of a stream that ended without its answer: the problem document's fields."""
    known = error if isinstance(error, TrellisError) else InternalError()
    retry_after = known.retry_after if isinstance(known, Retryable) else None
    return problem_event(known.code, known.title, known.detail, known.status, retry_after)


def problem_event(
    code: str, title: str, detail: str, status: int, retry_after: float | None, *, partial: bool = True
) -> StreamEvent:
    """`partial`: something was sent before, and is no answer."""
    problem = {"code": code, "title": title, "detail": detail, "status": status}
    problem |= {"retry_after": retry_after, "partial": partial}
    return StreamEvent("error", orjson.dumps(problem))


LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=200)]
"""What an endpoint that goes on with a stream takes, for `resume_after`."""


def wants_stream(accept: str | None) -> bool:
    """Whether the Accept header asks for an event stream."""
    return accept is not None and MEDIA_TYPE in accept.lower()


def _start(stream: Stream) -> StreamEvent:
    return StreamEvent("start", orjson.dumps({"stream_id": stream.id, "resume": stream.address}))


def _stopping() -> ShuttingDown:
    return ShuttingDown("The server is being stopped: ask again in a moment.", retry_after=1)


def _owner(principal: Principal) -> tuple[str, str]:
    return principal.tenant_id, principal.user
