"""`trellis` as a newer release has it, with revisions of its own: `python -m runbooks.drill.newer FOLDER ...`."""

import sys
from pathlib import Path

from tests.support.revisions import NewerProgram


def main() -> None:
    folder = Path(sys.argv.pop(1))
    from app.entry import main as trellis

    with NewerProgram(folder).running():
        trellis()


if __name__ == "__main__":
    main()
