"""Uploaded files to Markdown. The files are read in child processes: a bad one costs its child, nothing else."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Self

import orjson
import structlog

from app.errors import TooLarge, Unavailable
from app.knowledge.parsing.base import ANSWER, REQUEST, Limits, Parsed, Unreadable, named
from app.knowledge.parsing.media import media_type_of

log = structlog.get_logger(__name__)

CHILD = "app.knowledge.parsing.child"
START_S = 30.0
IDLE_S = 60.0
END_S = 2.0
# A character is at most six bytes of JSON; warnings and the title are little beside the text.
_BYTES_A_CHARACTER = 6
_SPARE = 1 << 16
# 20 MB in one piece held the event loop for 100 ms.
_SLICE = 1 << 18


class Parser:
    """Reads one file at a time in each of its children; more callers wait their turn.

    Children start with the first file, rest warm for `IDLE_S` and end then. One that hangs, breaks or grows too
    large is ended, and a fresh one serves the next file.
    """

    def __init__(self, max_bytes: int, limits: Limits, children: int, module: str) -> None:
        self._max_bytes = max_bytes
        self._limits = limits
        self._module = module
        self._turns = asyncio.Semaphore(children)
        self._idle: list[_Child] = []
        self._rest: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    def open(cls, *, max_bytes: int, limits: Limits | None = None, children: int = 1, module: str = CHILD) -> Self:
        """A parser that has started nothing yet.

        Args:
            max_bytes: the largest file that is taken.
            children: files read at the same time.
            module: what a child runs.
        """
        return cls(max_bytes, limits or Limits(), children, module)

    def admit(self, size: int, file_name: str | None) -> None:
        """To be asked before a file is read into memory. Raises TooLarge for one of more than `max_bytes`."""
        if size > self._max_bytes:
            raise TooLarge(
                f"{named(file_name)} has {size / (1 << 20):,.1f} MB, at most {self._max_bytes / (1 << 20):,.1f} MB are "
                "taken: split it."
            )

    async def text(self, content: bytes, media_type: str | None, file_name: str | None) -> Parsed:
        """The file's text.

        Args:
            media_type: as declared; what it is, is seen from the content (`media_type_of`).

        Raises:
            Unreadable: naming the file, what is wrong with it and what to do.
            UnsupportedMedia, TooLarge: a kind or a size that is not taken.
            Unavailable: no child could be started; nothing is wrong with the file.
        """
        self.admit(len(content), file_name)
        kind = media_type_of(content, media_type, file_name)
        about = {"media_type": kind, "file_name": file_name, "limits": asdict(self._limits)}
        async with self._turns:
            answer = await self._ask(about, content, file_name)
        if "error" in answer:
            log.info("file.unreadable", media_type=kind, size=len(content), cause=answer["cause"])
            raise Unreadable(answer["error"])
        return Parsed(answer["title"], answer["text"], tuple(answer["warnings"]))

    async def close(self) -> None:
        """Ends every child; a file that is being read at the time is given up."""
        self._closed = True
        if self._rest is not None:
            self._rest.cancel()
        self._end_idle()
        await asyncio.gather(*self._ending)

    async def _ask(self, about: Mapping[str, Any], content: bytes, file_name: str | None) -> dict[str, Any]:
        child = await self._child()
        try:
            async with asyncio.timeout(self._limits.wall_s):
                answer = await child.ask(about, content, self._limits.characters * _BYTES_A_CHARACTER + _SPARE)
        except (TimeoutError, EOFError, OSError) as error:
            how = await child.kill()
            late = isinstance(error, TimeoutError) or how == -signal.SIGXCPU
            log.warning("file.reader_ended", media_type=about["media_type"], size=len(content), late=late, exit=how)
            raise Unreadable(_ended(named(file_name), late=late)) from None
        except BaseException:
            await child.kill()
            raise
        self._release(child, retires=answer.pop("retires"))
        return answer

    async def _child(self) -> "_Child":
        if self._rest is not None:
            self._rest.cancel()
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
        return await _Child.start(self._module)

    def _release(self, child: "_Child", *, retires: bool) -> None:
        self._idle.append(child)
        if retires or self._closed:
            self._end_idle()
        else:
            self._rest = asyncio.get_running_loop().call_later(IDLE_S, self._end_idle)

    def _end_idle(self) -> None:
        while self._idle:
            task = asyncio.create_task(self._idle.pop().end())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


class _Child:
    """One process, and what is said to it."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._input, self._output = process, process.stdin, process.stdout

    @classmethod
    async def start(cls, module: str) -> Self:
        """A process that has said that it is up. It gets no secret: its environment is the search path alone.

        Raises Unavailable.
        """
        paths = os.pathsep.join(path or os.curdir for path in sys.path)
        child = cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-B", "-m", module),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env={"PYTHONPATH": paths, "PYTHONUTF8": "1", "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,
            )
        )
        try:
            async with asyncio.timeout(START_S):
                await child._answer(_SPARE)
        except (TimeoutError, EOFError, OSError):
            code = await child.kill()
            log.error("file.reader_does_not_start", exit=code)
            raise Unavailable("The reader of files does not start: try again later.", retry_after=30) from None
        except BaseException:
            await child.kill()
            raise
        return child

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, about: Mapping[str, Any], content: bytes, most: int) -> dict[str, Any]:
        """Raises EOFError or OSError where the process ends instead, or says more than `most` bytes."""
        head = orjson.dumps(about)
        self._input.write(REQUEST.pack(len(head), len(content)) + head)
        for start in range(0, len(content), _SLICE):
            self._input.write(content[start : start + _SLICE])
            await self._input.drain()
        return await self._answer(most)

    async def _answer(self, most: int) -> dict[str, Any]:
        (size,) = ANSWER.unpack(await self._output.readexactly(ANSWER.size))
        if size > most:
            raise EOFError("the answer is longer than any text")
        answer: dict[str, Any] = orjson.loads(await self._output.readexactly(size))
        return answer

    async def end(self) -> None:
        """Lets it end by itself, then makes it."""
        self._input.close()
        try:
            async with asyncio.timeout(END_S):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> int:
        """Returns how it ended: its exit status, negative for a signal."""
        if self._output.at_eof():
            # It is dying, and says how by itself: a signal is sent by a Popen that first looks whether it is there, and
            # so takes the exit status away from who waits for it.
            with suppress(TimeoutError):
                return await asyncio.wait_for(self._process.wait(), END_S)
        with suppress(ProcessLookupError):
            self._process.kill()
        return await self._process.wait()


def _ended(name: str, *, late: bool) -> str:
    if late:
        return f"{name} takes too long to read: split it, or save it anew."
    return f"{name} broke off its reading: it is damaged or made to do harm; save its text anew and upload that."
