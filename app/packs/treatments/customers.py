"""Puts customers and their events in or brings them up to date; the same import again changes nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import Table, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.errors import Conflict, InvalidInput
from app.governance.audit import Audit
from app.ids import new_id
from app.pack import Kit
from app.packs.treatments.answers import forget_answers
from app.packs.treatments.customer_rows import CustomerRepository, EventRepository, parts
from app.packs.treatments.models import Customer, CustomerEvent
from app.packs.treatments.reservations import forget
from app.packs.treatments.schemas import (
    CustomerDetail,
    CustomerIn,
    CustomerOut,
    CustomerPage,
    ImportReport,
)
from app.principal import Principal, Role
from app.storage.base import micros

PACK: Final = "treatments"
EVENTS_SHOWN: Final = 50
_AT_ONCE: Final = 250
_EVENTS_AT_ONCE: Final = 500
_CUSTOMERS: Final = cast(Table, Customer.__table__)
_EVENTS: Final = cast(Table, CustomerEvent.__table__)
_SET: Final = ("email", "segment", "fair_group", "worth_micros", "attributes")
_CHANGE: Final = (
    update(_CUSTOMERS)
    .where(_CUSTOMERS.c.tenant_id == bindparam("of_tenant"), _CUSTOMERS.c.id == bindparam("of_id"))
    .values({name: bindparam(f"to_{name}") for name in (*_SET, "updated_at")})
)


class CustomerImport:
    """Imports for any tenant. Holds nothing of one."""

    def __init__(self, clock: Clock, audit: Audit) -> None:
        self._clock = clock
        self._audit = audit

    async def put(self, session: AsyncSession, principal: Principal, customers: Sequence[CustomerIn]) -> ImportReport:
        """What became of them. For very many, call it once for each few thousand, each in a transaction of its own.

        Raises Forbidden below the role 'agent', InvalidInput for a customer, or a key of an event, that is there
        twice, and Conflict where another import put the same customers in at the same time.
        """
        principal.require(Role.AGENT)
        _refuse_twice(customers)
        work = _Import(session, principal.tenant_id, self._clock())
        try:
            # In one order whatever the body's, so that of two imports at once one waits and none locks the other out.
            for part in parts(sorted(customers, key=lambda customer: customer.external_id), _AT_ONCE):
                await work.put(part)
        except IntegrityError:
            raise Conflict("Another import of the same customers is under way: send this one again.") from None
        counts = work.report.model_dump()
        await self._audit.record(session, principal, "treatments.customers_imported", PACK, counts)
        return work.report


class _Import:
    """One import under way."""

    def __init__(self, session: AsyncSession, tenant_id: str, now: datetime) -> None:
        self._session = session
        self._tenant_id = tenant_id
        self._now = now
        self.report = ImportReport()

    async def put(self, given: Sequence[CustomerIn]) -> None:
        known = await self._known([customer.external_id for customer in given])
        ids = {name: row["id"] for name, row in known.items()}
        new: list[dict[str, Any]] = []
        changed: list[dict[str, Any]] = []
        for customer in given:
            before = known.get(customer.external_id)
            columns = customer.columns()
            if before is None:
                ids[customer.external_id] = new_id("customer")
                new.append(self._row(ids[customer.external_id], external_id=customer.external_id, **columns))
            elif any(before[name] != columns[name] for name in _SET):
                changed.append(self._change(before["id"], columns))
        if new:
            await self._session.execute(insert(_CUSTOMERS), new)
        if changed:
            await self._session.execute(_CHANGE, changed)
        self.report.new += len(new)
        self.report.changed += len(changed)
        self.report.unchanged += len(given) - len(new) - len(changed)
        await self._put_events(given, ids, {row["id"] for row in known.values()})

    async def _put_events(self, given: Sequence[CustomerIn], ids: Mapping[str, str], old: set[str]) -> None:
        events = [
            (ids[customer.external_id], key, event)
            for customer in given
            for key, event in {event.own_key: event for event in customer.events}.items()
        ]
        for part in parts(events, _EVENTS_AT_ONCE):
            had = await self._had([(customer_id, key) for customer_id, key, _ in part if customer_id in old])
            rows = [
                self._event(customer_id, key, event)
                for customer_id, key, event in part
                if (customer_id, key) not in had
            ]
            if rows:
                await self._session.execute(insert(_EVENTS), rows)
            self.report.events_new += len(rows)

    async def _known(self, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        columns = (_CUSTOMERS.c[name] for name in ("id", "external_id", *_SET))
        query = select(*columns).where(_CUSTOMERS.c.tenant_id == self._tenant_id, _CUSTOMERS.c.external_id.in_(names))
        rows = (await self._session.execute(query)).mappings()
        return {row["external_id"]: dict(row) for row in rows}

    async def _had(self, wanted: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        if not wanted:
            return set()
        query = select(_EVENTS.c.customer_id, _EVENTS.c.key).where(
            _EVENTS.c.tenant_id == self._tenant_id,
            _EVENTS.c.customer_id.in_({customer_id for customer_id, _ in wanted}),
            _EVENTS.c.key.in_({key for _, key in wanted}),
        )
        return {(row.customer_id, row.key) for row in await self._session.execute(query)}

    def _row(self, row_id: str, **columns: Any) -> dict[str, Any]:
        stamp = {"id": row_id, "tenant_id": self._tenant_id, "created_at": self._now, "updated_at": self._now}
        return {**stamp, **columns}

    def _change(self, row_id: str, columns: Mapping[str, Any]) -> dict[str, Any]:
        to = {f"to_{name}": columns[name] for name in _SET}
        return {"of_tenant": self._tenant_id, "of_id": row_id, "to_updated_at": self._now, **to}

    def _event(self, customer_id: str, key: str, event: Any) -> dict[str, Any]:
        return {
            "id": new_id("event"),
            "tenant_id": self._tenant_id,
            "created_at": self._now,
            "customer_id": customer_id,
            "key": key,
            "at": event.at,
            "kind": event.kind,
            "channel": event.channel,
            "amount_micros": micros(event.amount_usd),
            "text": event.text,
        }


def _refuse_twice(customers: Sequence[CustomerIn]) -> None:
    seen: set[str] = set()
    for customer in customers:
        if customer.external_id in seen:
            raise InvalidInput(f"The customer {customer.external_id} is in the import twice: send them once.")
        seen.add(customer.external_id)
        keys = [event.key for event in customer.events if event.key is not None]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InvalidInput(
                f"The customer {customer.external_id} has two events with the key '{twice}': keys are unique."
            )


class CustomerService:
    """What the API does with customers, in the principal's tenant."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._db = kit.ports.db
        self._audit = kit.audit
        self._import = CustomerImport(kit.ports.clock, kit.audit)

    async def put(self, principal: Principal, customers: Sequence[CustomerIn]) -> ImportReport:
        """All of them or none; see `CustomerImport.put`."""
        async with self._db.transaction(principal.tenant_id) as session:
            return await self._import.put(session, principal, customers)

    async def get(self, principal: Principal, name: str) -> CustomerDetail:
        """Raises NotFound."""
        async with self._db.reading(principal.tenant_id) as session:
            row = await CustomerRepository(session, principal.tenant_id).named(name)
            events = EventRepository(session, principal.tenant_id)
            newest = await events.newest(row.id, EVENTS_SHOWN)
            return CustomerDetail.whole(row, newest, await events.count(row.id))

    async def page(self, principal: Principal, segment: str | None, cursor: str | None, limit: int) -> CustomerPage:
        """Newest first; of one segment where it is given."""
        where = [] if segment is None else [Customer.segment == segment]
        async with self._db.reading(principal.tenant_id) as session:
            page = await CustomerRepository(session, principal.tenant_id).page(*where, cursor=cursor, limit=limit)
        return CustomerPage(items=[CustomerOut.of(row) for row in page.items], next_cursor=page.next_cursor)

    async def delete(self, principal: Principal, name: str) -> None:
        """The customer and all that hangs on them: events, outcomes, results, reservations. Raises NotFound.

        Units of capacity that were kept for them from today on are free again.
        """
        principal.require(Role.AGENT)
        async with self._db.transaction(principal.tenant_id) as session:
            row = await CustomerRepository(session, principal.tenant_id).named(name)
            await forget(session, self._kit, principal.tenant_id, [row.id])
            await forget_answers(session, principal.tenant_id, [row.id])
            await session.execute(
                delete(Customer).where(Customer.tenant_id == principal.tenant_id, Customer.id == row.id)
            )
            await self._audit.record(session, principal, "treatments.customer_deleted", row.id, {})
