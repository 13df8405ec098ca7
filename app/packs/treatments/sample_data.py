"""Loads what ships with the pack: a catalogue, customers of a telephone company that does not exist, some outcomes."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from app.pack import Kit
from app.packs.treatments.catalogue import CatalogueIn, CatalogueRepository, in_force
from app.packs.treatments.customer_rows import CustomerRepository
from app.packs.treatments.customers import CustomerImport
from app.packs.treatments.outcomes import Outcomes
from app.packs.treatments.schemas import CustomerIn, OutcomeIn
from app.packs.treatments.versions import Catalogues
from app.principal import Principal

SAMPLE: Final = Path(__file__).with_name("sample")


class SampleData:
    def __init__(self, kit: Kit) -> None:
        self._db = kit.ports.db
        self._clock = kit.ports.clock
        self._catalogues = Catalogues(kit)
        self._import = CustomerImport(kit.ports.clock, kit.audit)
        self._outcomes = Outcomes(kit.ports.clock, kit.audit)

    async def load(self, principal: Principal) -> int:
        """The number of new customers: none where any of them is there already.

        Files say how many days ago a thing happened, so that a sample is never out of date. A tenant that has a
        catalogue keeps it; outcomes of treatments that it does not have stay out.
        """
        async with self._db.reading(principal.tenant_id) as session:
            has_catalogue = await CatalogueRepository(session, principal.tenant_id).newest() is not None
        if not has_catalogue:
            await self._catalogues.put(principal, sample_catalogue())
        now = self._clock()
        customers, outcomes = list(sample_customers(now)), list(sample_outcomes(now))
        async with self._db.transaction(principal.tenant_id) as session:
            rows = CustomerRepository(session, principal.tenant_id)
            if await rows.ids_of({customer.external_id for customer in customers}):
                return 0
            await self._import.put(session, principal, customers)
            _, catalogue = await in_force(session, principal.tenant_id)
            known = {"", *(treatment.name for treatment in catalogue.treatments)}
            await self._outcomes.record(session, principal, [one for one in outcomes if one.treatment in known])
        return len(customers)


def sample_catalogue() -> CatalogueIn:
    return CatalogueIn.model_validate_json((SAMPLE / "catalogue.json").read_bytes())


def sample_customers(now: datetime) -> Iterator[CustomerIn]:
    for fields in _lines("customers.jsonl"):
        events = [_dated(event, now) for event in fields.pop("events")]
        yield CustomerIn.model_validate({**fields, "events": events})


def sample_outcomes(now: datetime) -> Iterator[OutcomeIn]:
    for fields in _lines("outcomes.jsonl"):
        yield OutcomeIn.model_validate(_dated(fields, now))


def _lines(name: str) -> Iterator[dict[str, Any]]:
    for line in (SAMPLE / name).read_bytes().splitlines():
        yield orjson.loads(line)


def _dated(fields: dict[str, Any], now: datetime) -> dict[str, Any]:
    ago = timedelta(days=fields.pop("days_ago"))
    return {**fields, "at": now - ago}
