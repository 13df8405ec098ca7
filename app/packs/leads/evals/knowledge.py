"""The sample's pages behind a real retriever, in a folder that goes with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.clock import Clock
from app.knowledge.evaluation.workbench import workbench
from app.knowledge.retrieve import Retriever
from app.packs.leads.sample_data import sample_pages
from app.packs.leads.tools import BOT

TENANT = "evaluation"


@asynccontextmanager
async def sample_retriever(clock: Clock) -> AsyncIterator[Retriever]:
    """The embedded search over the shipped pages, for the tenant `evaluation`; nothing is left behind."""
    async with workbench(clock) as bench:
        for page in sample_pages():
            await bench.ingestor.put_page(TENANT, BOT, page)
        yield bench.retriever
