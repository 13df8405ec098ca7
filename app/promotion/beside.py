"""The steps beside the rows, open: the vector index, conversations, a sample of answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.clock import Clock, system_clock
from app.container.index import open_index
from app.promotion.answers import ASKED, AnswerStep, Sample
from app.promotion.memory import MemoryStep
from app.promotion.steps import Step
from app.promotion.vectors import VectorStep
from app.settings import Settings


@asynccontextmanager
async def open_steps(
    source: Settings, target: Settings, *, sampled: int = ASKED, clock: Clock = system_clock
) -> AsyncIterator[tuple[Step, ...]]:
    """In the order in which they are to be taken.

    An embedded index has one owner. On the way up it is the old server, so what that answers from is made once more
    in this process, from its rows; on the way back the data folder is ours, and its index is filled for the server
    that is started next.

    Raises ConfigError where a server still has the folder that rows go back to, Unavailable where one is away.
    """
    embedded = source.vectors_url is None
    async with open_index(source, scratch=embedded, clock=clock) as here, open_index(target, clock=clock) as there:
        sample = Sample(here.db, size=sampled)
        yield VectorStep(there), AnswerStep(here, there, sample, empty=embedded), MemoryStep(clock)
