"""Loads what ships with the pack: the knowledge of a company that does not exist, and leads that wrote to it."""

from collections.abc import Iterator
from pathlib import Path

from app.pack import Kit
from app.packs.leads.intake import json_lines, validated
from app.packs.leads.service import LeadService
from app.packs.leads.tools import BOT
from app.principal import Principal

SAMPLE = Path(__file__).with_name("sample")


class SampleData:
    def __init__(self, kit: Kit, service: LeadService) -> None:
        self._kit = kit
        self._service = service

    async def load(self, principal: Principal) -> int:
        """Knowledge first, then the leads, whose decisions are queued. Returns the number of new leads."""
        await self.load_knowledge(principal)
        batch = validated(json_lines((SAMPLE / "leads.jsonl").read_text("utf-8")))
        async with self._kit.ports.db.transaction(principal.tenant_id) as session:
            ids, _known = await self._service.create_many(session, principal, batch.leads)
        return len(ids)

    async def load_knowledge(self, principal: Principal) -> int:
        """Returns the number of pages; those that did not change cost nothing."""
        pages = list(sample_pages())
        for page in pages:
            await self._kit.ingestor.put_page(principal.tenant_id, BOT, page)
        return len(pages)


def sample_pages() -> Iterator[str]:
    """The pages' sources, front matter included, in the order of their names."""
    for path in sorted((SAMPLE / "knowledge").glob("*.md")):
        yield path.read_text("utf-8")
