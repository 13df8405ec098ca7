"""Versions of the catalogue: a new one only where something in it changed, an old one for ever as it was."""

from cachetools import LRUCache
from sqlalchemy.exc import IntegrityError

from app.errors import Conflict, NotFound
from app.ids import new_id
from app.pack import Kit
from app.packs.treatments.catalogue import CatalogueIn, CatalogueRepository, content_of
from app.packs.treatments.models import Catalogue
from app.packs.treatments.schemas import CatalogueOut, CatalogueVersion, CatalogueVersions
from app.principal import Principal, Role

_KEPT = 64


class Catalogues:
    def __init__(self, kit: Kit) -> None:
        self._db = kit.ports.db
        self._clock = kit.ports.clock
        self._audit = kit.audit
        self._read: LRUCache[tuple[str, int], CatalogueIn] = LRUCache(_KEPT)

    async def put(self, principal: Principal, given: CatalogueIn) -> CatalogueOut:
        """The version in force from now on. Raises Forbidden below 'admin', Conflict where two come at once."""
        principal.require(Role.ADMIN)
        try:
            async with self._db.transaction(principal.tenant_id) as session:
                rows = CatalogueRepository(session, principal.tenant_id)
                newest = await rows.newest()
                if newest is not None and content_of(newest) == given:
                    return CatalogueOut.of(newest)
                row = rows.add(
                    Catalogue(
                        id=new_id("catalogue"),
                        created_at=self._clock(),
                        version=newest.version + 1 if newest else 1,
                        content=given.model_dump(mode="json"),
                        created_by=principal.actor,
                    )
                )
                await session.flush()
                about = {"version": row.version, "treatments": [treatment.name for treatment in given.treatments]}
                await self._audit.record(session, principal, "treatments.catalogue_put", row.id, about)
                return CatalogueOut.of(row, changed=True)
        except IntegrityError:
            raise Conflict(
                "Another version of the catalogue was put at the same time: read it, then send yours again."
            ) from None

    async def get(self, principal: Principal, version: int | None) -> CatalogueOut:
        """The version, or the one in force. Raises NotFound."""
        async with self._db.reading(principal.tenant_id) as session:
            rows = CatalogueRepository(session, principal.tenant_id)
            row = await rows.newest() if version is None else await rows.version(version)
        if row is None:
            raise NotFound("There is no catalogue of treatments yet: put one with PUT /v1/treatments/catalogue.")
        return CatalogueOut.of(row)

    async def page(self, principal: Principal, cursor: str | None, limit: int) -> CatalogueVersions:
        """Newest first."""
        async with self._db.reading(principal.tenant_id) as session:
            page = await CatalogueRepository(session, principal.tenant_id).page(cursor=cursor, limit=limit)
        return CatalogueVersions(
            items=[CatalogueVersion.listed(row) for row in page.items], next_cursor=page.next_cursor
        )

    async def content(self, tenant_id: str, version: int) -> CatalogueIn:
        """A version, which never changes, so it is read once. Raises NotFound."""
        known = self._read.get((tenant_id, version))
        if known is None:
            async with self._db.reading(tenant_id) as session:
                known = content_of(await CatalogueRepository(session, tenant_id).version(version))
            self._read[tenant_id, version] = known
        return known
