"""Which index of a bot answers, and which ones every change must reach."""

from dataclasses import dataclass

from cachetools import LRUCache
from sqlalchemy.ext.asyncio import AsyncSession

from app.knowledge.base import Embedder, Namespace
from app.knowledge.chunking import Bounds
from app.knowledge.models import GenerationRow, GenerationState
from app.knowledge.registry import Embedders
from app.knowledge.repository import IndexRepository, IndexState
from app.knowledge.versions import IndexVersions
from app.storage.db import Database
from app.storage.repository import TenantRepository

FIRST = ""
_FIRST_NAME = "first"
KEPT_UP = (GenerationState.BUILDING, GenerationState.READY)


@dataclass(frozen=True, slots=True)
class Generation:
    """One way to index a bot's documents. Never changes: another embedder or other sizes are another generation."""

    id: str
    embedder: str
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers at one moment: everything that a search needs to stay inside one generation."""

    generation: Generation
    version: int
    namespace: Namespace


class GenerationRepository(TenantRepository[GenerationRow]):
    model = GenerationRow
    noun = "index generation"

    async def kept_up(self, bot: str, state: IndexState) -> list[GenerationRow]:
        """Those with rows that changes must reach: the active one, the previous one, and a candidate."""
        pointed = [id for id in (state.active, state.previous) if id]
        held = GenerationRow.state.in_(KEPT_UP) | GenerationRow.id.in_(pointed)
        return list(await self.all(GenerationRow.bot == bot, held))

    async def of_bot(self, bot: str, generation_id: str) -> GenerationRow:
        """Raises NotFound, also for one of another bot."""
        row = await self.first(GenerationRow.bot == bot, GenerationRow.id == generation_id)
        if row is None:
            raise self.not_found(generation_id)
        return row


class Generations:
    """Reads what `app.knowledge.reindex` decides. `bounds` are the sizes of the first generation."""

    def __init__(
        self, db: Database, versions: IndexVersions, embedders: Embedders, bounds: Bounds | None = None
    ) -> None:
        self._db = db
        self.versions = versions
        self._embedders = embedders
        self._first = Generation(FIRST, embedders.default.name, bounds or Bounds())
        self._defined: LRUCache[tuple[str, str], Generation] = LRUCache(10_000)

    @property
    def first(self) -> Generation:
        return self._first

    def embedder(self, name: str) -> Embedder:
        """Raises ConfigError for one that the settings do not offer."""
        return self._embedders.get(name)

    async def serving(self, tenant_id: str, bot: str) -> Serving:
        """What answers now, with the index version of the same moment; at most a second old."""
        state = await self.versions.state(Namespace(tenant_id, bot))
        generation = await self.get(tenant_id, state.active)
        return Serving(generation, state.version, Namespace(tenant_id, bot, generation.id))

    async def active(self, tenant_id: str, bot: str) -> Generation:
        """At most a second old."""
        return (await self.serving(tenant_id, bot)).generation

    async def get(self, tenant_id: str, generation_id: str) -> Generation:
        """Raises NotFound."""
        if generation_id == FIRST:
            return self._first
        known: Generation | None = self._defined.get((tenant_id, generation_id))
        if known is None:
            async with self._db.reading(tenant_id) as session:
                known = _generation(await GenerationRepository(session, tenant_id).get(generation_id))
            self._defined[tenant_id, generation_id] = known
        return known

    async def written(self, tenant_id: str, bot: str) -> tuple[Generation, ...]:
        """What every put and delete must reach, the active one first; read anew each time."""
        # The writer: a replica may not know of a candidate yet.
        async with self._db.transaction(tenant_id) as session:
            return await self.written_in(session, tenant_id, bot)

    async def followers(self, tenant_id: str, bot: str) -> tuple[Generation, ...]:
        """Those that every change must reach and that neither answer nor are being filled by a build."""
        async with self._db.transaction(tenant_id) as session:
            _, *others = await self.written_in(session, tenant_id, bot)
            building = GenerationRow.state == GenerationState.BUILDING
            filled = {row.id for row in await GenerationRepository(session, tenant_id).all(building)}
        return tuple(one for one in others if one.id not in filled)

    async def written_in(self, session: AsyncSession, tenant_id: str, bot: str) -> tuple[Generation, ...]:
        """As `written`, in a transaction of the writer.

        Whoever puts a document keeps its text first and asks then: a candidate that is not in the answer lists the
        documents after that, and finds the new text. One that misses it all the same is brought it by `Repairs`.
        """
        state = await IndexRepository(session, tenant_id).state(bot)
        rows = await GenerationRepository(session, tenant_id).kept_up(bot, state)
        found = {row.id: _generation(row) for row in rows}
        if FIRST in (state.active, state.previous):
            found[FIRST] = self._first
        active = found.pop(state.active)
        return (active, *found.values())


def public_name(generation_id: str) -> str:
    """How a generation is called towards people: the first one's id is empty."""
    return generation_id or _FIRST_NAME


def id_of(name: str) -> str:
    """The opposite of `public_name`."""
    return FIRST if name == _FIRST_NAME else name


def _generation(row: GenerationRow) -> Generation:
    return Generation(row.id, row.embedder, Bounds(**row.bounds))
