"""How messages go to a server and come back: a child's standard streams, HTTP; both within bounds.

The library's own readers take a line, or a JSON answer, of any length.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final

import anyio
import httpx2
import structlog
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from pydantic import ValidationError

from app.integrations.mcp.config import ServerSpec

MAX_MESSAGE_BYTES: Final = 4 << 20
MAX_UNASKED_BYTES: Final = 16 << 20
"""That a child may write between two messages of ours."""
_END_S: Final = 1.0
_POLL_S: Final = 0.01
_TAIL_BYTES: Final = 2_000
_log = structlog.get_logger(__name__)


class Flooded(httpx2.StreamError):
    """A server sent more than anybody reads. Of this kind the library knows that one answer alone is lost."""


class Child:
    """A server as a child process in a session of its own; one JSON-RPC message a line, as the specification has it."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.why = ""
        self._process = process
        self._name = name
        self._unasked = 0
        self._tail = b""
        self._in, self.incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        self.outgoing, self._out = anyio.create_memory_object_stream[SessionMessage](0)
        self._tasks = [asyncio.create_task(work) for work in (self._read(), self._write(), self._listen())]

    @classmethod
    async def start(cls, spec: ServerSpec) -> "Child":
        """Raises OSError. Of this process's environment the child gets PATH, HOME and the like, and what `env` says."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            spec.command or "",
            *spec.args,
            env=get_default_environment() | spec.env,
            cwd=spec.cwd,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            limit=MAX_MESSAGE_BYTES,
            start_new_session=True,
        )
        return cls(process, spec.name)

    async def end(self) -> None:
        """Closes its input, waits a moment, then ends the child and what it started."""
        process = self._process
        assert process.stdin is not None
        process.stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            await self._exited()
            # Also where it ended by itself: the group may hold children of its own.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        await self._exited()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Nothing public closes the pipes of a child that nobody reads to its end.
        with suppress(AttributeError, PermissionError):
            process._transport.close()  # type: ignore[attr-defined]
        for stream in (self._in, self.incoming, self.outgoing, self._out):
            stream.close()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                self._unasked += len(line)
                if self._unasked > MAX_UNASKED_BYTES:
                    raise Flooded(f"it wrote more than {MAX_UNASKED_BYTES >> 20} MB that nobody asked for")
                with suppress(ValidationError):  # a banner, a print: not a message
                    await self._in.send(SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False)))
            self.why = self.why or await self._ended()
        except ValueError:
            self.why = f"it wrote a message of more than {MAX_MESSAGE_BYTES >> 20} MB"
        except Flooded as error:
            self.why = str(error)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
        finally:
            self._in.close()

    async def _write(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError, anyio.ClosedResourceError):
            async for message in self._out:
                self._unasked = 0
                line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                self._process.stdin.write(line.encode() + b"\n")
                await self._process.stdin.drain()

    async def _listen(self) -> None:
        """Keeps the end of what it complains of, for the log."""
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(_TAIL_BYTES):
            self._tail = (self._tail + chunk)[-_TAIL_BYTES:]

    async def _exited(self) -> None:
        """Waits a moment for the process to end. Not by `wait`: that also waits for whoever inherited its pipes."""
        for _ in range(int(_END_S / _POLL_S)):
            if self._process.returncode is not None:
                return
            await asyncio.sleep(_POLL_S)

    async def _ended(self) -> str:
        await self._exited()
        code = self._process.returncode
        _log.warning("mcp.child_ended", server=self._name, code=code, said=self._tail.decode(errors="replace"))
        return f"its process ended with {code}" if code is not None else "it closed its output"


class Bounded(httpx2.AsyncBaseTransport):
    """Ends an answer that is longer than a message may be, and tells every status."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, answered: Callable[[int], None]) -> None:
        self._inner = inner
        self._answered = answered

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        self._answered(response.status_code)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _BoundedStream(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._inner:
            size += len(chunk)
            if size > MAX_MESSAGE_BYTES:
                raise Flooded(f"it sent an answer of more than {MAX_MESSAGE_BYTES >> 20} MB")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
