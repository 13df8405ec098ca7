"""One person in a tenant: what they are called, what is kept of them where, and how it is erased.

A person has many names: an e-mail address, the tenant's own id of a user, the ids of rows that stand for them. Each
store says which of them lead to which, and gives out or erases what it keeps under any of them.
"""

import hashlib
import hmac
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncSession

from app.governance.models import Decision, DecisionState
from app.governance.user_tokens import check_user_id
from app.ids import new_id
from app.storage.base import Base
from app.storage.repository import TenantRepository

AT_ONCE: Final = 400
"""Values in one SQL condition: databases bound them."""
ERASED: Final = {"erased": True}
"""Stands where a document about a person stood."""
_MOST_LOOKS: Final = 20


class Kind(StrEnum):
    """`record` is a row of a pack that stands for the person, `subject` what decisions name as their subject."""

    EMAIL = "email"
    USER = "user"
    RECORD = "record"
    SUBJECT = "subject"
    DECISION = "decision"


class Alias(NamedTuple):
    """One name of a person."""

    kind: Kind
    value: str


class Aliases(frozenset[Alias]):
    """Every name of one person that is known by now."""

    def of(self, *kinds: Kind) -> list[str]:
        """The values of these kinds, sorted."""
        return sorted({alias.value for alias in self if alias.kind in kinds})


class PersonStore(Protocol):
    """What the rows of one room or pack hold of a person. All of it happens in the caller's transaction."""

    @property
    def name(self) -> str: ...

    async def aliases(self, session: AsyncSession, tenant_id: str, known: Aliases) -> set[Alias]:
        """Further names that the rows under the known ones lead to."""

    async def export(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[dict[str, Any]]:
        """Everything that is kept, as JSON-able rows."""

    async def erase(self, session: AsyncSession, tenant_id: str, known: Aliases) -> int:
        """Removes it, or blanks what must stay for figures; how many rows held something. A second time: 0."""


class PersonTraces(Protocol):
    """What is kept of a person outside the database's transaction: memory, caches, vectors, jobs, streams."""

    @property
    def name(self) -> str: ...

    async def export(self, tenant_id: str, known: Aliases) -> list[dict[str, Any]]: ...

    async def erase(self, tenant_id: str, known: Aliases) -> int:
        """Removes it; how many entries, 0 where a store does not count. May be repeated. Raises where it cannot."""


def alias_of(given: str) -> Alias:
    """What a caller names a person by: an e-mail address, lower-cased, else a user's id. Raises InvalidInput."""
    given = given.strip()
    if "@" in given:
        return Alias(Kind.EMAIL, given.lower())
    return Alias(Kind.USER, check_user_id(given))


async def all_aliases(
    session: AsyncSession, tenant_id: str, stores: Sequence[PersonStore], known: Iterable[Alias]
) -> Aliases:
    """Every name that the known ones lead to, in any number of steps."""
    found = Aliases(known)
    for _ in range(_MOST_LOOKS):
        more = [await store.aliases(session, tenant_id, found) for store in stores]
        wider = Aliases(found.union(*more))
        if wider == found:
            break
        found = wider
    return found


def person_mark(secret: bytes, tenant_id: str, alias: Alias) -> str:
    """What the audit log calls a person: HMAC-SHA256, so that nobody without the secret can try out names."""
    text = "\0".join(("person", tenant_id, alias.kind, alias.value))
    return f"person_{hmac.digest(secret, text.encode(), hashlib.sha256).hex()[:40]}"


def batches(values: Collection[str]) -> Iterable[list[str]]:
    """The values in lists that one SQL condition takes."""
    ordered = sorted(values)
    return (ordered[start : start + AT_ONCE] for start in range(0, len(ordered), AT_ONCE))


def plain(row: Base, table: str | None = None) -> dict[str, Any]:
    """A row as it is given out: its table and every column but the tenant's."""
    columns = [column.key for column in inspect(type(row)).columns if column.key != "tenant_id"]
    values = {name: getattr(row, name) for name in columns}
    return {"table": table or row.__tablename__} | {
        name: value.isoformat() if isinstance(value, date | datetime) else value for name, value in values.items()
    }


class _Decisions(TenantRepository[Decision]):
    model, noun = Decision, "decision"


class DecisionsOfPerson:
    """Decisions about a subject, of every pack. What they cost and came out as stays; what they say goes."""

    name = "decisions"

    def __init__(self, subject_of: Callable[[str], str]) -> None:
        """`subject_of`: what decisions call a user of this id."""
        self._subject_of = subject_of

    async def aliases(self, session: AsyncSession, tenant_id: str, known: Aliases) -> set[Alias]:
        subjects = {self._subject_of(user) for user in known.of(Kind.USER)} | set(known.of(Kind.RECORD))
        decisions = {Alias(Kind.DECISION, row.id) for row in await self._rows(session, tenant_id, known)}
        return decisions | {Alias(Kind.SUBJECT, subject) for subject in subjects}

    async def export(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[dict[str, Any]]:
        return [plain(row) for row in await self._rows(session, tenant_id, known)]

    async def erase(self, session: AsyncSession, tenant_id: str, known: Aliases) -> int:
        """The subject's id stays where it stands for a row (a lead), and gives way to one that says nothing where it
        is a user's own; either way the rows of one person still count as one in figures."""
        records = set(known.of(Kind.RECORD))
        instead = {subject: new_id("erased") for subject in known.of(Kind.SUBJECT) if subject not in records}
        rows = await self._rows(session, tenant_id, known)
        for row in rows:
            row.subject_id = instead.get(row.subject_id, row.subject_id)
            _blank(row)
        await session.flush()
        return len(rows)

    async def _rows(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[Decision]:
        """Those that still say something."""
        found: list[Decision] = []
        for batch in batches(known.of(Kind.SUBJECT)):
            found += await _Decisions(session, tenant_id).all(Decision.subject_id.in_(batch))
        return [row for row in found if not erased(row)]


def erased(decision: Decision) -> bool:
    """Whether the decision's person was erased: nothing is left of what it saw and said."""
    return bool(decision.inputs == ERASED)


def _blank(row: Decision) -> None:
    row.reason, row.evidence = "", []
    row.inputs = row.answer = ERASED
    row.tool_calls = [{**call, "detail": ""} for call in row.tool_calls]
    if row.state == DecisionState.WAITING_APPROVAL:
        row.state = DecisionState.DONE
