"""The process that reads files: `python -m app.knowledge.parsing.child`, started by `parser.py` only.

A request on standard input is a head (lengths of the two parts), a JSON object, the file. An answer on standard
output is a length and a JSON object: `{"title", "text", "warnings"}`, or `{"error", "cause"}`. The first answer,
`{}`, says that the process is up. It ends when its input does.

It opens no connection, starts no process and writes no file. Memory and processor time are bounded by the system,
time on the clock by the parent. This bounds what a hostile file can cost; it is no jail for one that takes over
the interpreter.
"""

import logging
import os
import resource
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from app.errors import TrellisError
from app.knowledge.parsing import media
from app.knowledge.parsing.base import ANSWER, MAX_TITLE, REQUEST, Limits, Parsed, Unreadable, named
from app.knowledge.parsing.markdown import one_line, tidy
from app.knowledge.parsing.pdf import read_pdf
from app.knowledge.parsing.plain import read_markdown, read_plain
from app.knowledge.parsing.web import read_html
from app.knowledge.parsing.word import read_word

Reader = Callable[[bytes, str | None, Limits], Parsed]

# A process that still holds more than this after a file gives it back by ending.
KEPT_BYTES = 300 << 20
_MAX_FILES = 64
_REFUSED = ("socket.", "subprocess.", "os.exec", "os.posix_spawn", "os.fork", "os.system")

READERS: Mapping[str, Reader] = {
    media.PLAIN: lambda content, file_name, _: read_plain(content, file_name),
    media.MARKDOWN: lambda content, file_name, _: read_markdown(content, file_name),
    media.HTML: lambda content, file_name, _: read_html(content, file_name),
    media.DOCX: lambda content, file_name, _: read_word(content, file_name),
    media.PDF: read_pdf,
}


def serve(readers: Mapping[str, Reader]) -> None:
    """Answers requests until standard input ends, or until it holds more memory than is worth keeping."""
    requests, answers = sys.stdin.buffer, _claim_output()
    _confine()
    _send(answers, {})
    while head := requests.read(REQUEST.size):
        about, size = REQUEST.unpack(head)
        request = orjson.loads(requests.read(about))
        answer = _answer(readers, request, requests.read(size))
        retires = _held() > KEPT_BYTES
        _send(answers, {**answer, "retires": retires})
        if retires:
            break


def _held() -> int:
    """Bytes in memory now; where the system does not tell, the most that there ever were.

    Linux has its own way, as its most counts what the parent held when it started this process.
    """
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _claim_output() -> BinaryIO:
    """The answers' own channel: what a library prints goes nowhere."""
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    logging.disable(logging.CRITICAL)
    return channel


def _confine() -> None:
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_NOFILE, _MAX_FILES)
    sys.addaudithook(_refuse)


def _lower(which: int, value: int) -> None:
    """Sets the soft limit; a system that does not know the limit is left to the parent's clock."""
    with suppress(OSError, ValueError):
        _, hard = resource.getrlimit(which)
        resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _refuse(event: str, _arguments: tuple[Any, ...]) -> None:
    if event.startswith(_REFUSED):
        raise PermissionError(f"a reader of files may not: {event}")


def _answer(readers: Mapping[str, Reader], request: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    file_name, limits = request["file_name"], Limits(**request["limits"])
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + limits.cpu_s + 1)
    _lower(resource.RLIMIT_AS, limits.memory_bytes)
    try:
        parsed = _finished(readers[request["media_type"]](content, file_name, limits), file_name, limits)
    except TrellisError as error:
        return {"error": error.detail, "cause": type(error).__name__}
    except MemoryError:
        megabytes = limits.memory_bytes >> 20
        return {
            "error": f"{named(file_name)} needs more than {megabytes:,} MB of memory to read: split it.",
            "cause": "MemoryError",
        }
    except Exception as error:  # whatever a parser raises on a file that was made to break it
        return {
            "error": f"{named(file_name)} is damaged: open it in the program that made it, save it again, upload that.",
            "cause": type(error).__name__,
        }
    return {"title": parsed.title, "text": parsed.text, "warnings": parsed.warnings}


def _finished(parsed: Parsed, file_name: str | None, limits: Limits) -> Parsed:
    text = tidy(parsed.text)
    if not text.strip():
        raise Unreadable(f"{named(file_name)} holds no text: upload a file that does.")
    if len(text) > limits.characters:
        raise Unreadable(
            f"{named(file_name)} holds {len(text):,} characters of text, at most {limits.characters:,} are kept: "
            "split it."
        )
    return Parsed(one_line(tidy(parsed.title or ""))[:MAX_TITLE].strip() or None, text, parsed.warnings)


def _send(answers: BinaryIO, answer: Mapping[str, Any]) -> None:
    body = orjson.dumps(answer)
    rest = memoryview(ANSWER.pack(len(body)) + body)
    while rest:
        rest = rest[answers.write(rest) :]


if __name__ == "__main__":
    serve(READERS)
