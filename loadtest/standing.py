"""A house that stands until its standard input is closed: `python -m loadtest.standing PHASE FOLDER`.

Prints the house as one line of JSON when it is ready; how it goes is on standard error. In a process of its own, the
house is made of the checkout that it is started in, with that checkout's phases and rules.
"""

import asyncio
import sys
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from infra.phases import PHASES, Phase, PhaseName
from loadtest.house import House, HouseError, house
from loadtest.stub.pace import pace_of

HOUSE: Final = TypeAdapter(House)


async def stand(phase: Phase, folder: Path) -> None:
    """Raises HouseError."""
    async with house(folder, phase, model=pace_of(phase), say=_say) as there:
        print(HOUSE.dump_json(there).decode(), flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    name, folder = sys.argv[1:]
    try:
        asyncio.run(stand(PHASES[PhaseName(name)], Path(folder)))
    except HouseError as error:
        _say(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
