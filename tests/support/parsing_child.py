"""A reader of files that does what the file says: `python -m tests.support.parsing_child`, for tests of the parser."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache

from app.knowledge.parsing import media
from app.knowledge.parsing.base import Limits, Parsed
from app.knowledge.parsing.child import serve


def hang() -> str:
    time.sleep(600)
    return "woke"


def spin() -> str:
    while True:
        pass


def hog() -> str:
    return str(len(bytearray(8 << 30)))


def grow() -> str:
    return f"holds {len(held())} bytes"


@cache
def held() -> bytes:
    return b"x" * (400 << 20)


def flood() -> str:
    sys.stdout.write("noise")
    sys.stdout.flush()
    os.write(1, b"noise")
    return "quiet"


def connect() -> str:
    socket.socket().close()
    return "opened"


def start_process() -> str:
    return subprocess.run(["true"], check=True).args[0]


def write_file() -> str:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(b"x")
    return "wrote"


def crash() -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def environment() -> str:
    return " ".join(sorted(os.environ))


def endless() -> str:
    return "x" * 20_000


ORDERS: Mapping[str, Callable[[], str]] = {
    act.__name__: act
    for act in (hang, spin, hog, grow, flood, connect, start_process, write_file, crash, environment, endless)
}


def obey(content: bytes, _file_name: str | None, _limits: Limits) -> Parsed:
    order = content.decode()
    return Parsed(str(os.getpid()), ORDERS[order]() if order in ORDERS else order)


if __name__ == "__main__":
    serve({media.PLAIN: obey})
