"""The steps beside the rows, open: the vector index, conversations, a sample of answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.clock import Clock, system_clock
from app.container.index import open_index
from app.errors import Unavailable
from app.promotion.answers import ASKED, AnswerStep, Sample
from app.promotion.memory import MemoryStep
from app.promotion.steps import Step
from app.promotion.vectors import VectorStep
from app.settings import Settings
from app.storage.failures import first_line
from app.storage.postgres import AWAY


@asynccontextmanager
async def open_steps(
    source: Settings, target: Settings, *, back: bool = False, sampled: int = ASKED, clock: Clock = system_clock
) -> AsyncIterator[tuple[Step, ...]]:
    """In the order in which they are to be taken.

    An embedded index has one owner. On the way up it is the old server, so what that answers from is made once more
    in this process, from its rows; on the way back the data folder is ours, and its index is filled for the server
    that is started next. A rollback asks nothing of the other side's vectors: they may be why there is one.

    Raises ConfigError where a server still has the folder that rows go back to, Unavailable where one is away, also
    from within the block.
    """
    scratch = back or source.vectors_url is None
    try:
        async with open_index(source, scratch=scratch, clock=clock) as here, open_index(target, clock=clock) as there:
            sample = Sample(here.db, size=sampled)
            yield VectorStep(there), AnswerStep(here, there, sample, asks=not back, empty=scratch), MemoryStep(clock)
    except AWAY as error:
        raise Unavailable(
            f"A database does not answer ({first_line(error)}): run the same command again.", retry_after=5
        ) from error
