"""A TCP proxy on loopback that is slow, silent or gone as a test wants: what toxiproxy does, which no package has."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

_PIECE = 65_536
# A close with this option on resets the connection and sends nothing that was still under way.
_RESET = struct.pack("ii", 1, 0)


class Wire:
    """From a free port to `target_port`, in a thread of its own, so that a test that blocks does not stop it.

    As it is made it passes everything on at once.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self._delay_s = 0.0
        self._open = True
        self._flows: asyncio.Event | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def delay(self, seconds: float) -> None:
        """From now on every piece arrives that much later, in both directions."""
        self._delay_s = seconds

    def cut(self) -> None:
        """Resets every connection and refuses new ones."""
        self._do(self._cut)

    def stall(self) -> None:
        """Takes connections and says nothing on them or on the older ones."""
        self._do(self._hold)

    def heal(self) -> None:
        """As new. What a stall held back arrives."""
        self._delay_s = 0.0
        self._do(self._let)

    def _do(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(timeout=10)

    async def _listen(self) -> None:
        self._flows = self._flows or asyncio.Event()
        self._flows.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port or None)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            _reset(writer)

    async def _hold(self) -> None:
        assert self._flows is not None
        self._flows.clear()

    async def _let(self) -> None:
        assert self._flows is not None
        self._flows.set()
        if self._server is None:
            await self._listen()

    async def _end(self) -> None:
        await self._cut()
        # Also the pumps and what delivers for them.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            _reset(writer)
        finally:
            self._writers.discard(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._flows is not None
        await self._flows.wait()
        there, onward = await asyncio.open_connection("127.0.0.1", self.target_port)
        self._writers.add(onward)
        try:
            await asyncio.gather(self._pump(reader, onward), self._pump(there, writer))
        except OSError:
            _reset(writer)
        finally:
            self._writers.discard(onward)
            onward.close()
            writer.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Pieces in their order, each after its delay, which those that follow it do not wait out again."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        deliver = asyncio.create_task(self._deliver(queue, sink))
        try:
            while piece := await source.read(_PIECE):
                queue.put_nowait((self._loop.time() + self._delay_s, piece))
            queue.put_nowait((self._loop.time() + self._delay_s, b""))
            await deliver
        finally:
            deliver.cancel()

    async def _deliver(self, queue: "asyncio.Queue[tuple[float, bytes]]", sink: asyncio.StreamWriter) -> None:
        assert self._flows is not None
        while True:
            at, piece = await queue.get()
            await asyncio.sleep(max(0.0, at - self._loop.time()))
            await self._flows.wait()
            if not piece:
                with suppress(OSError, RuntimeError):
                    sink.write_eof()
                return
            sink.write(piece)
            await sink.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    with suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
