"""What came of treatments: recorded once for each key, and counted into the cases that alike customers learn from.

A case belongs to the customer's journey as it was before the outcome: events and other outcomes that happened earlier,
in the window of the catalogue in force. What happened at the same moment or later never goes in, whenever it was
imported. Attributes and segment are as they stand when the outcome is recorded, for they have no history: record
outcomes soon, or import an attribute that the outcome itself changes (`is_client`) under another name.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import Table, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.errors import Conflict, InvalidInput
from app.governance.audit import Audit
from app.ids import new_id
from app.packs.treatments.catalogue import CatalogueIn, CatalogueRepository, content_of, in_force
from app.packs.treatments.customer_rows import CustomerRepository, parts
from app.packs.treatments.customers import PACK
from app.packs.treatments.features import features_of
from app.packs.treatments.fingerprint import fingerprint_of, vector_of
from app.packs.treatments.histories import CustomerSeen, HistoryBuilder, Treated, Window, events_between
from app.packs.treatments.journey_stage import traits_in
from app.packs.treatments.models import Case, Customer, Outcome, Run
from app.packs.treatments.schemas import OutcomeIn, OutcomesReport
from app.principal import Principal, Role
from app.storage.base import micros

_AT_ONCE: Final = 250
_EARLY: Final = timedelta(minutes=5)
_OUTCOMES: Final = cast(Table, Outcome.__table__)
_CASES: Final = cast(Table, Case.__table__)
_SAME: Final = ("customer_id", "treatment", "run_id", "success", "value_micros", "at")


@dataclass(frozen=True, slots=True)
class _Happened:
    """A new outcome of a customer of ours."""

    customer_id: str
    treatment: str
    success: bool
    at: datetime


class Outcomes:
    """Records them for any tenant. Holds nothing of one."""

    def __init__(self, clock: Clock, audit: Audit) -> None:
        self._clock = clock
        self._audit = audit

    async def record(
        self, session: AsyncSession, principal: Principal, outcomes: Sequence[OutcomeIn]
    ) -> OutcomesReport:
        """All of them or none. For very many, call it once for each few thousand.

        Raises Forbidden below the role 'agent'; InvalidInput for a key that is there twice, a customer, a treatment or
        a run that there is none of, or a time to come; Conflict where a key is known with another content.
        """
        principal.require(Role.AGENT)
        _refuse_twice(outcomes)
        _, catalogue = await in_force(session, principal.tenant_id)
        work = _Recording(session, principal.tenant_id, self._clock(), catalogue)
        report = OutcomesReport()
        try:
            fresh = await work.fresh(outcomes)
            report.new, report.known = len(fresh), len(outcomes) - len(fresh)
            report.cases = await work.count(fresh)
        except IntegrityError:
            raise Conflict("Another request records the same outcomes: send this one again.") from None
        await self._audit.record(session, principal, "treatments.outcomes_recorded", PACK, report.model_dump())
        return report


class _Recording:
    """One batch under way."""

    def __init__(self, session: AsyncSession, tenant_id: str, now: datetime, catalogue: CatalogueIn) -> None:
        self._session = session
        self._tenant_id = tenant_id
        self._now = now
        self._catalogue = catalogue

    async def fresh(self, given: Sequence[OutcomeIn]) -> list[_Happened]:
        """Puts in those whose key is new, once everything that they name is there."""
        ids = await CustomerRepository(self._session, self._tenant_id).ids_of({one.customer for one in given})
        rows = [self._row(one, ids) for one in given]
        await self._check_treatments({one.treatment for one in given} - {""})
        await self._check_runs({one.run_id for one in given if one.run_id is not None})
        known = await self._known([one.key for one in given])
        for row in rows:
            before = known.get(row["key"])
            if before is not None and any(before[name] != row[name] for name in _SAME):
                raise Conflict(
                    f"The outcome '{row['key']}' is there with another content: an outcome stays as it was recorded."
                )
        new = [row for row in rows if row["key"] not in known]
        for part in parts(new):
            await self._session.execute(insert(_OUTCOMES), part)
        return [_Happened(row["customer_id"], row["treatment"], row["success"], row["at"]) for row in new]

    async def count(self, happened: Sequence[_Happened]) -> int:
        """Counts each into its case; how many cases that were."""
        cases: dict[tuple[str, str], Counter[bool]] = defaultdict(Counter)
        vectors: dict[str, list[float]] = {}
        for part in parts(sorted(happened, key=lambda one: (one.customer_id, one.at)), _AT_ONCE):
            for one, traits in await self._traits(part):
                fingerprint = fingerprint_of(traits)
                cases[fingerprint, one.treatment][one.success] += 1
                if fingerprint not in vectors:
                    vectors[fingerprint] = vector_of(traits)
        # Sorted, so that two batches at once never wait for each other's rows.
        rows = [self._case(key, counts, vectors[key[0]]) for key, counts in sorted(cases.items())]
        for some in parts(rows):
            await self._session.execute(self._counted(), some)
        return len(rows)

    async def _traits(self, happened: Sequence[_Happened]) -> list[tuple[_Happened, dict[str, str]]]:
        """Each with the words for the customer's journey up to the moment before it."""
        ids = sorted({one.customer_id for one in happened})
        customers = await self._customers(ids)
        windows = [Window(one.at, self._catalogue.window_days) for one in happened]
        builders = [HistoryBuilder(window) for window in windows]
        of_customer: dict[str, list[HistoryBuilder]] = defaultdict(list)
        for one, builder in zip(happened, builders, strict=True):
            of_customer[one.customer_id].append(builder)
        since, until = min(window.since for window in windows), max(window.until for window in windows)
        async for customer_id, event in events_between(self._session, self._tenant_id, ids, since, until):
            for builder in of_customer[customer_id]:
                builder.add(event)
        before = await self._before(ids, until)
        found = []
        for one, builder in zip(happened, builders, strict=True):
            treated = _treated(one.at, before[one.customer_id])
            history = builder.history(customers[one.customer_id], treated)
            features = features_of(history, one.at, self._catalogue.window_days)
            found.append((one, traits_in(history, self._catalogue, features)))
        return found

    async def _customers(self, ids: Sequence[str]) -> dict[str, CustomerSeen]:
        columns = (Customer.external_id, Customer.segment, Customer.fair_group, Customer.worth_micros)
        query = select(Customer.id, *columns, Customer.attributes).where(
            Customer.tenant_id == self._tenant_id, Customer.id.in_(ids)
        )
        return {row.id: CustomerSeen(*row) for row in await self._session.execute(query)}

    async def _before(self, ids: Sequence[str], until: datetime) -> defaultdict[str, list[Any]]:
        """Outcomes of the customers, those of this batch too: they are put in already."""
        columns = (Outcome.customer_id, Outcome.treatment, Outcome.success, Outcome.at)
        where = (Outcome.tenant_id == self._tenant_id, Outcome.customer_id.in_(ids), Outcome.at < until)
        found: defaultdict[str, list[Any]] = defaultdict(list)
        for row in await self._session.execute(select(*columns).where(*where)):
            found[row.customer_id].append(row)
        return found

    async def _known(self, keys: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for part in parts(keys):
            query = select(Outcome.key, *(getattr(Outcome, name) for name in _SAME)).where(
                Outcome.tenant_id == self._tenant_id, Outcome.key.in_(part)
            )
            found.update({row["key"]: row for row in (await self._session.execute(query)).mappings()})
        return found

    async def _check_treatments(self, names: set[str]) -> None:
        """Any version's: an outcome may come in after its treatment left the catalogue."""
        unknown = names - {treatment.name for treatment in self._catalogue.treatments}
        if not unknown:
            return
        for row in await CatalogueRepository(self._session, self._tenant_id).all():
            unknown -= {treatment.name for treatment in content_of(row).treatments}
        if unknown:
            self._catalogue.treatment(min(unknown))

    async def _check_runs(self, run_ids: set[str]) -> None:
        found: set[str] = set()
        for part in parts(sorted(run_ids)):
            query = select(Run.id).where(Run.tenant_id == self._tenant_id, Run.id.in_(part))
            found.update(await self._session.scalars(query))
        if run_ids - found:
            raise InvalidInput(f"There is no run '{min(run_ids - found)}': leave 'run_id' out, or name one of yours.")

    def _row(self, given: OutcomeIn, ids: dict[str, str]) -> dict[str, Any]:
        if given.customer not in ids:
            raise InvalidInput(
                f"The outcome '{given.key}' names the customer '{given.customer}', who is not there: import them first."
            )
        if given.at > self._now + _EARLY:
            raise InvalidInput(
                f"The outcome '{given.key}' is of {given.at:%Y-%m-%d %H:%M} UTC, which is still to come."
            )
        return {
            "id": new_id("outcome"),
            "tenant_id": self._tenant_id,
            "created_at": self._now,
            "key": given.key,
            "customer_id": ids[given.customer],
            "run_id": given.run_id,
            "treatment": given.treatment,
            "success": given.success,
            "value_micros": micros(given.value_usd),
            "at": given.at,
        }

    def _case(self, key: tuple[str, str], counts: Counter[bool], vector: list[float]) -> dict[str, Any]:
        return {
            "id": new_id("case"),
            "tenant_id": self._tenant_id,
            "created_at": self._now,
            "updated_at": self._now,
            "fingerprint": key[0],
            "treatment": key[1],
            "vector": vector,
            "trials": counts.total(),
            "successes": counts[True],
        }

    def _counted(self) -> Any:
        dialect = postgresql if self._session.get_bind().dialect.name == "postgresql" else sqlite
        statement = dialect.insert(_CASES)
        more = statement.excluded
        return statement.on_conflict_do_update(
            index_elements=["tenant_id", "fingerprint", "treatment"],
            set_={
                "trials": _CASES.c.trials + more.trials,
                "successes": _CASES.c.successes + more.successes,
                "updated_at": more.updated_at,
            },
        )


def _treated(at: datetime, outcomes: Iterable[Any]) -> Treated:
    treated = Treated()
    for outcome in outcomes:
        if outcome.at < at:
            treated.add(outcome.treatment, 1, int(outcome.success), outcome.at)
    return treated


def _refuse_twice(outcomes: Sequence[OutcomeIn]) -> None:
    seen: set[str] = set()
    for outcome in outcomes:
        if outcome.key in seen:
            raise InvalidInput(f"The outcome '{outcome.key}' is in the batch twice: send it once.")
        seen.add(outcome.key)
