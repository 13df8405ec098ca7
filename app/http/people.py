"""`/v1/people`: everything that is kept of one person, given out or erased."""

from typing import Annotated, Any, Protocol

import orjson
from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field
from sqlalchemy import CursorResult, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.governance.people import Alias, Aliases, Kind, batches
from app.http.deps import Admin
from app.http.models import IdempotencyKey
from app.people import People

PersonId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=320,
        description="An e-mail address, or the id of one of your users; percent-encoded",
    ),
]
_ERASED = '{"erased":true}'


class PeopleDesk(Protocol):
    @property
    def people(self) -> People: ...


class NameOut(BaseModel):
    """One name of the person: an e-mail address, a user's id, the id of a lead, of a subject, of a decision."""

    kind: Kind
    value: str


class PersonOut(BaseModel):
    """`aliases` are every name that was found to be the same person's; `stores` what is kept under them."""

    id: str
    aliases: list[NameOut]
    stores: dict[str, list[dict[str, Any]]]


class ErasedOut(BaseModel):
    """How much each store held. `pending` names stores that did not answer: a job erases them as soon as they do."""

    erased: dict[str, int]
    pending: list[str] = Field(description="Empty where all is erased")


def people_router(desk: PeopleDesk) -> APIRouter:
    router = APIRouter(tags=["people"])

    @router.get("/v1/people/{person_id:path}", response_model=PersonOut, summary="Everything that is kept of a person")
    async def export_person(person_id: PersonId, principal: Admin) -> Response:
        """An address that several of your users share leads to all of them: look at `aliases` before you erase."""
        found = await desk.people.export(principal, person_id)
        names = [alias._asdict() for alias in sorted(found.aliases)]
        body = orjson.dumps({"id": found.id, "aliases": names, "stores": found.stores})
        return Response(body, media_type="application/json", headers={"cache-control": "no-store"})

    @router.delete(
        "/v1/people/{person_id:path}",
        responses={202: {"model": ErasedOut, "description": "Some stores did not answer; a job erases them"}},
        summary="Erase a person",
    )
    async def erase_person(person_id: PersonId, principal: Admin, response: Response) -> ErasedOut:
        """Rows, vectors, memory, caches and jobs; what is left are figures without a name, and an entry in the audit
        log that says so. What comes of the person within minutes after it, from work that was under way, goes too."""
        done = await desk.people.erase(principal, person_id)
        response.status_code = 202 if done.pending else 200
        return ErasedOut(erased=dict(done.counts), pending=list(done.pending))

    return router


class AnswersOnceOfPerson:
    """`PersonStore` of answers that are kept to be given again to a repeated request (Idempotency-Key).

    A blanked one still stops the request from being done twice.
    """

    name = "idempotency_keys"

    async def aliases(self, _session: AsyncSession, _tenant_id: str, _known: Aliases) -> set[Alias]:
        return set()

    async def export(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[dict[str, Any]]:
        ids: set[str] = set()
        for where in _naming(known):
            query = select(IdempotencyKey.id).where(IdempotencyKey.tenant_id == tenant_id, where)
            ids |= set(await session.scalars(query))
        rows: list[dict[str, Any]] = []
        for batch in batches(ids):
            found = await session.scalars(select(IdempotencyKey).where(IdempotencyKey.id.in_(batch)))
            rows += [{"at": row.created_at.isoformat(), "status": row.status, "answer": row.body} for row in found]
        return rows

    async def erase(self, session: AsyncSession, tenant_id: str, known: Aliases) -> int:
        rows = 0
        mine = IdempotencyKey.tenant_id == tenant_id
        for email in known.of(Kind.EMAIL):
            # A key that its sender made of the address cannot be blanked.
            rows += _count(
                await session.execute(
                    delete(IdempotencyKey).where(mine, IdempotencyKey.key.icontains(email, autoescape=True))
                )
            )
        for where in _naming(known):
            rows += _count(await session.execute(update(IdempotencyKey).where(mine, where).values(body=_ERASED)))
        return rows


def _naming(known: Aliases) -> list[Any]:
    """Conditions for answers that hold one of the person's addresses or ids, a few names each."""
    names = known.of(Kind.EMAIL, Kind.RECORD, Kind.DECISION)
    few = 50
    return [
        or_(*(IdempotencyKey.body.icontains(name, autoescape=True) for name in names[start : start + few]))
        for start in range(0, len(names), few)
    ]


def _count(result: Any) -> int:
    assert isinstance(result, CursorResult)
    return int(result.rowcount)
