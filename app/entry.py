"""The program's first lines: what must hold before its seconds of imports."""

import sys

from app.process import end_on_sigterm


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
