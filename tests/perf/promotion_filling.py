"""A PoC of some size: rows and vectors as the app would have written them, without its taking the time for it."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random

from app.clock import system_clock
from app.container.index import Index, open_index
from app.knowledge.base import Namespace
from app.knowledge.indexing import Indexer
from app.knowledge.ingest import Ingestor
from app.knowledge.models import DocumentStatus
from app.knowledge.page import Page
from app.knowledge.repository import ChunkRepository
from app.knowledge.versions import IndexVersions
from app.promotion.vectors import VectorFill
from app.settings import Settings
from app.telemetry.setup import build_metrics

TEXTS = "cranfield_documents.txt"
AT_ONCE = 250
_WORDS: Sequence[str] = str.split("""
invoice sensor dairy cellar humidity door shelf honey pump valve report battery signal warranty delivery roof storm
ladder garden engine bridge ferry copper linen orchard kettle violin harbour lantern meadow
""")


async def fill_documents(settings: Settings, tenant: str, bot: str, count: int, data: Path) -> None:
    """So many documents, ready, with their vectors. Nobody else may have the folder open."""
    async with open_index(settings) as index:
        versions, metrics = IndexVersions(index.db, system_clock), build_metrics("demo", settings.phase)
        ingestor = Ingestor(index.db, index.store, index.generations, versions, metrics, system_clock)
        pages = _pages(count, data)
        while part := list(islice(pages, AT_ONCE)):
            await _keep(index, ingestor, tenant, bot, part)
        async with index.db.transaction(tenant) as session:
            await versions.bump(session, Namespace(tenant, bot))
        await VectorFill(index).fill()


async def _keep(index: Index, ingestor: Ingestor, tenant: str, bot: str, pages: Sequence[Page]) -> None:
    indexer: Indexer = ingestor.indexer
    first = index.generations.first
    async with index.db.transaction(tenant) as session:
        for page in pages:
            document, _ = await ingestor.keep(session, tenant, bot, page)
            cut = await indexer.cut(document, first)
            await indexer.plan(session, document, [cut])
            await ChunkRepository(session, tenant).settle(document.id, first.id)
            document.status, document.embedder = DocumentStatus.READY, first.embedder
            document.chunk_count, document.quarantined_count = len(cut.chunks), len(cut.findings)


def _pages(count: int, data: Path) -> Iterator[Page]:
    """Each of its own words; seeded, so that a second run makes the same ones."""
    chance = Random(2026)
    sentence = _sentences(data, chance)
    for number in range(count):
        parts = [f"## Part {part}\n\n{' '.join(sentence() for _ in range(6))}" for part in range(3)]
        text = f"Page {number} is about lot {number * 7}.\n\n" + "\n\n".join(parts)
        yield Page(f"page-{number}", f"Page {number}", text, ())


def _sentences(data: Path, chance: Random) -> Callable[[], str]:
    """Those of the abstracts in the folder where it has them, else ones made of a few words."""
    if (data / TEXTS).exists():
        known = [one.strip() for one in (data / TEXTS).read_text("utf-8").split(" . ") if 40 < len(one) < 400]
        return lambda: f"{chance.choice(known)}."
    return lambda: f"The {' '.join(chance.choices(_WORDS, k=9))} number {chance.randrange(10**6)}."


def fill_leads(path: Path, leads: int, decisions: int) -> None:
    """Copies of the first lead and the first decision that are there, each under a name of its own."""
    with sqlite3.connect(path, timeout=60) as database:
        _copies(database, "leads", leads, {"id": "'lead_old' || number", "external_id": "'old-' || number"})
        keys = {"id": "'dec_old' || number", "trigger_id": "'old-' || number", "trigger_key": "'old-' || number"}
        _copies(database, "decisions", decisions, keys)


def _copies(database: sqlite3.Connection, table: str, count: int, own: dict[str, str]) -> None:
    columns = [name for _, name, *_ in database.execute(f"PRAGMA table_info({table})")]
    taken = ", ".join(own.get(name, name) for name in columns)
    database.execute(
        "WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < ?) "
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {taken} FROM numbers, (SELECT * FROM {table} LIMIT 1)",
        (count,),
    )
