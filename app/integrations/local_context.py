"""What the embedded default knows of companies and repositories: rows of the tenant's own, in place of the vendors.

A company is one that was put in (`put_record`), or a contact of the embedded CRM by its id: then its company's notes.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import func
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFound
from app.ids import new_id
from app.integrations.base import (
    Account,
    AccountNote,
    CodeActivity,
    CodeItem,
    CodeKind,
    Company,
    Deal,
    Ticket,
    checked_company,
    checked_repository,
)
from app.integrations.local import ContactRepository, NoteRepository
from app.integrations.models import ContextRecord, CrmContact, CrmNote
from app.integrations.wire import clipped, moment_or_none
from app.storage.db import Database
from app.storage.repository import TenantRepository

COMPANY, DEAL, TICKET, NOTE, REPOSITORY = "company", "deal", "ticket", "note", "repository"
NEWEST = 100

T = TypeVar("T")


class ContextRepository(TenantRepository[ContextRecord]):
    model, noun = ContextRecord, "context record"

    async def newest(self, place: str, kind: str) -> tuple[Sequence[ContextRecord], bool]:
        """At most 100, newest first, and whether there are more."""
        query = self.query(ContextRecord.place == place, ContextRecord.kind == kind)
        rows = await self.session.scalars(query.order_by(ContextRecord.at.desc(), ContextRecord.id).limit(NEWEST + 1))
        found: Sequence[ContextRecord] = rows.all()
        return found[:NEWEST], len(found) > NEWEST

    async def read(self, place: str, kind: str, read: Callable[[ContextRecord], T]) -> tuple[tuple[T, ...], bool]:
        rows, more = await self.newest(place, kind)
        return tuple(map(read, rows)), more

    async def put(self, place: str, kind: str, key: str, at: datetime, document: Mapping[str, Any]) -> bool:
        """Whether it is new: one that is known stays as it is."""
        values = {"id": new_id("context"), "tenant_id": self.tenant_id, "created_at": at}
        values |= {"place": place, "kind": kind, "key": key, "at": at, "document": dict(document)}
        dialect = postgresql if self.session.get_bind().dialect.name == "postgresql" else sqlite
        row = dialect.insert(ContextRecord).values(**values).on_conflict_do_nothing().returning(ContextRecord.id)
        return await self.session.scalar(row) is not None


async def put_record(
    session: AsyncSession, tenant_id: str, place: str, kind: str, key: str, at: datetime, document: Mapping[str, Any]
) -> bool:
    """Adds what the embedded default shall know; False where it knows it already.

    `kind` is company, deal, ticket, note, repository or a `CodeKind`; `document` holds the fields of that value beside
    its id and time, with times as ISO texts.
    """
    return await ContextRepository(session, tenant_id).put(place, kind, key, at, document)


async def blank_words(session: AsyncSession, tenant_id: str, company_id: str) -> int:
    """Takes the words out of a company's tickets and notes, for a person who is erased; how many held some."""
    wanted = ContextRecord.place == company_id, ContextRecord.kind.in_((TICKET, NOTE))
    rows = [row for row in await ContextRepository(session, tenant_id).all(*wanted) if _words(row)]
    for row in rows:
        row.document = {**row.document, **dict.fromkeys(_words(row), "")}
    return len(rows)


def _words(row: ContextRecord) -> list[str]:
    """The fields that hold what somebody wrote."""
    return [name for name in ("subject", "text") if row.document.get(name)]


class LocalCodeHost:
    name = "local"

    def __init__(self, db: Database) -> None:
        self._db = db

    async def activity(self, tenant_id: str, repository: str, since: datetime) -> CodeActivity:
        place = checked_repository(repository).lower()
        async with self._db.reading(tenant_id) as session:
            rows = ContextRepository(session, tenant_id)
            if await rows.first(ContextRecord.place == place, ContextRecord.kind == REPOSITORY) is None:
                raise NotFound(
                    f"There is no repository '{repository}' here: set TRELLIS_GITHUB_TOKEN to read it from GitHub."
                )
            found = [await rows.newest(place, kind) for kind in CodeKind]
        items = [_code_item(row) for page, _ in found for row in page]
        fresh = [item for item in items if max(item.at, item.closed_at or item.at) >= since]
        newest = tuple(sorted(fresh, key=lambda item: item.at, reverse=True))
        return CodeActivity(repository, newest, any(more for _, more in found))


class LocalAccountContext:
    name = "local"

    def __init__(self, db: Database) -> None:
        self._db = db

    async def account(self, tenant_id: str, company_id: str) -> Account:
        checked_company(company_id)
        async with self._db.reading(tenant_id) as session:
            rows = ContextRepository(session, tenant_id)
            company = await rows.first(ContextRecord.place == company_id, ContextRecord.kind == COMPANY)
            if company is None:
                return await _account_of_contact(session, tenant_id, company_id)
            deals, more_deals = await rows.read(company_id, DEAL, _deal)
            tickets, more_tickets = await rows.read(company_id, TICKET, _ticket)
            notes, more_notes = await rows.read(company_id, NOTE, _note)
        notes = tuple(note for note in notes if note.text)
        known = Company(company_id, **company.document)
        return Account(known, deals, tickets, notes, more_deals or more_tickets or more_notes)


async def _account_of_contact(session: AsyncSession, tenant_id: str, contact_id: str) -> Account:
    """The company of a contact of the embedded CRM, with the notes on all of its contacts."""
    contacts = ContactRepository(session, tenant_id)
    contact = await contacts.find(contact_id)
    if contact is None:
        raise NotFound(f"There is no company '{contact_id[:80]}' in the CRM: check the client's 'crm_id'.")
    name = contact.company or contact.name
    same = func.lower(CrmContact.company) == name.lower() if contact.company else CrmContact.id == contact.id
    ids = [row.id for row in await contacts.all(same, limit=NEWEST)]
    page = await NoteRepository(session, tenant_id).page(CrmNote.contact_id.in_(ids), limit=NEWEST)
    notes = tuple(AccountNote(note.id, note.created_at, clipped(note.text)) for note in page.items)
    return Account(Company(contact.id, name), notes=notes, cut=page.next_cursor is not None)


def _times(document: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The document with these fields as times."""
    return {**document, **{name: moment_or_none(document.get(name)) for name in names}}


def _code_item(row: ContextRecord) -> CodeItem:
    values = _times(row.document, "closed_at")
    labels = tuple(values.pop("labels", ()))
    return CodeItem(kind=CodeKind(row.kind), id=row.key, at=row.at, labels=labels, **values)


def _deal(row: ContextRecord) -> Deal:
    return Deal(id=row.key, opened_at=row.at, **_times(row.document, "closes_at"))


def _ticket(row: ContextRecord) -> Ticket:
    return Ticket(id=row.key, opened_at=row.at, **_times(row.document, "closed_at"))


def _note(row: ContextRecord) -> AccountNote:
    return AccountNote(id=row.key, at=row.at, text=str(row.document["text"]))
