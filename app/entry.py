"""The program's first lines: what must hold before its seconds of imports."""

import signal
import sys
from types import FrameType

_TERMINATED = 128 + signal.SIGTERM


def end_on_sigterm() -> None:
    """A process that is still starting, or runs a command, ends when it is asked to, also as the first of a container:
    the kernel gives that one no signal that it does not handle. A server replaces this once it runs."""
    signal.signal(signal.SIGTERM, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_TERMINATED)


def main() -> None:
    """`trellis`. A probe runs every few seconds: it does without what the other commands import."""
    end_on_sigterm()
    if sys.argv[1:2] == ["health"]:
        from app.probe import main as health

        raise SystemExit(health(sys.argv[2:]))
    from app.cli import main as run

    run()


if __name__ == "__main__":
    main()
