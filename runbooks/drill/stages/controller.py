"""A controller's loop, in a thread beside what a stage does: it brings what there is to what is wanted."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_STOP_S: Final = 30.0


@contextmanager
def reconciling(once: Callable[[], object], every_s: float, log: Path) -> Iterator[None]:
    """Again and again until the block ends. What goes wrong is written to `log`, and the next time may go well."""
    over = threading.Event()

    def keep() -> None:
        while not over.is_set():
            try:
                once()
            except Exception as error:
                with log.open("a") as out:
                    out.write(f"{error!r}\n")
            over.wait(every_s)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_STOP_S)
