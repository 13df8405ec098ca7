"""The Qdrant fake over the embedded engine, as a process of its own: prints its address, and ends with its input.

python -m tests.support.fakes.qdrant_process
"""

import asyncio
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

from tests.support.fakes.qdrant import FakeQdrant
from tests.support.fakes.qdrant_embedded import EmbeddedPoints


async def main() -> None:
    # A hundred thousand vectors in their requests are not to be kept.
    last: Any = deque(maxlen=1)
    with tempfile.TemporaryDirectory(prefix="trellis-qdrant-") as folder:
        points: Any = EmbeddedPoints(Path(folder))
        async with FakeQdrant(seen=last, local=points) as fake:
            print(fake.url, flush=True)
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
