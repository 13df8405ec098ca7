"""Requests that may be repeated: at most one effect, and the same answer each time (Idempotency-Key).

The header follows draft-ietf-httpapi-idempotency-key-header: another body under a used key is 422, a repeat while
the first is still being answered is 409. The work's rows and the stored answer are committed together, and only by
the request that holds the lease, so a crash at any point leaves either both or neither.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel
from sqlalchemy import CursorResult, Insert, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from app.clock import Clock
from app.errors import InvalidInput, Retryable
from app.http.body import BodyGuard
from app.http.models import IdempotencyKey
from app.ids import new_id
from app.principal import Principal, Role
from app.storage.db import Database

MAX_KEY = 200
LEASE = timedelta(seconds=60)
KEPT = timedelta(hours=24)
REPLAYED = {"Idempotency-Replayed": "true"}

Work = Callable[[AsyncSession], Awaitable[BaseModel]]


class InFlight(Retryable):
    status, code, title = 409, "in-flight", "The first request with this key is still being answered"


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to do the work of a key, until the lease ends."""

    tenant_id: str
    row_id: str
    attempt: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a JSON document, as they are sent and stored."""

    status: int
    body: str

    def response(self, headers: dict[str, str] | None = None) -> Response:
        return Response(self.body, status_code=self.status, headers=headers, media_type="application/json")


class Repeats:
    """The idempotency keys of all tenants."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self.db = db
        self._clock = clock

    async def claim(self, tenant_id: str, key: str, fingerprint: str) -> Claim | Answer:
        """The right to work, or the answer that a former request was given.

        Raises InvalidInput where the key came with another request before, InFlight while its lease runs.
        """
        now = self._clock()
        fresh = _fresh(tenant_id, key, fingerprint, now)
        async with self.db.transaction(tenant_id) as session:
            if _rows(await session.execute(self._insert_if_new().values(**fresh))) == 1:
                return Claim(tenant_id, fresh["id"], fresh["attempt"])
            return _judge(await _locked(session, tenant_id, key), fresh, now)

    async def complete(self, session: AsyncSession, claim: Claim, answer: Answer) -> None:
        """Stores the answer in the work's own transaction.

        Raises InFlight, which rolls the work back, where the lease ended and another request took the key over.
        """
        done = await session.execute(
            update(IdempotencyKey).where(*_still(claim)).values(status=answer.status, body=answer.body)
        )
        if _rows(done) != 1:
            raise InFlight(
                "This took longer than its lease, and a repeat took over: ask again for its answer.", retry_after=1
            )

    async def release(self, claim: Claim) -> None:
        """Forgets a claim whose work failed, so that a repeat may try at once; a completed one stays."""
        async with self.db.transaction(claim.tenant_id) as session:
            await session.execute(delete(IdempotencyKey).where(*_still(claim)))

    def _insert_if_new(self) -> Insert:
        if self.db.dialect == "postgresql":
            return postgresql.insert(IdempotencyKey).on_conflict_do_nothing(index_elements=["tenant_id", "key"])
        return sqlite.insert(IdempotencyKey).on_conflict_do_nothing(index_elements=["tenant_id", "key"])


class OnceRunner:
    """Runs an endpoint's work, once for each idempotency key."""

    def __init__(self, repeats: Repeats, request: Request, principal: Principal, key: str | None) -> None:
        self._repeats = repeats
        self._request = request
        self._principal = principal
        self._key = key

    async def run(self, status: int, work: Work) -> Response:
        """`work(session)` in one transaction, answered with `status` and its model as JSON.

        With an Idempotency-Key: the answer of the first request is given again with `Idempotency-Replayed: true`.
        An error of the work rolls everything back and is not stored: a repeat tries again.

        Raises InvalidInput for a key that came with another request before, InFlight while the first is answered.
        """
        if self._key is None:
            async with self._repeats.db.transaction(self._principal.tenant_id) as session:
                return _answer(status, await work(session)).response()
        asked = await fingerprint(self._request, self._principal.role)
        claimed = await self._repeats.claim(self._principal.tenant_id, self._key, asked)
        if isinstance(claimed, Answer):
            return claimed.response(REPLAYED)
        try:
            return (await self._work(claimed, status, work)).response()
        except Exception:
            await self._repeats.release(claimed)
            raise

    async def _work(self, claim: Claim, status: int, work: Work) -> Answer:
        async with self._repeats.db.transaction(self._principal.tenant_id) as session:
            answer = _answer(status, await work(session))
            await self._repeats.complete(session, claim, answer)
        return answer


async def fingerprint(request: Request, role: Role) -> str:
    """SHA-256 over role, method, path with query, content type and the body's digest: what makes two requests the same.

    The role, since a stored answer is given without asking again whether the caller may do the work.
    """
    guard: BodyGuard = request.state.body
    if not guard.complete:
        await request.body()
    scope = request.scope
    parts = (
        role.encode(),
        scope["method"].encode(),
        scope["path"].encode(),
        scope["query_string"],
        request.headers.get("content-type", "").encode("latin-1"),
        guard.digest(),
    )
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).hexdigest()


async def purge_expired(session: AsyncSession, now: datetime, limit: int) -> int:
    """Deletes up to `limit` keys past their 24 hours, of all tenants; the number deleted."""
    expired = select(IdempotencyKey.id).where(IdempotencyKey.expires_at <= now).limit(limit)
    return _rows(await session.execute(delete(IdempotencyKey).where(IdempotencyKey.id.in_(expired))))


def _fresh(tenant_id: str, key: str, fingerprint: str, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id("once"),
        "tenant_id": tenant_id,
        "created_at": now,
        "key": key,
        "fingerprint": fingerprint,
        "attempt": new_id("try"),
        "lease_until": now + LEASE,
        "expires_at": now + KEPT,
        "status": None,
        "body": None,
    }


async def _locked(session: AsyncSession, tenant_id: str, key: str) -> IdempotencyKey | None:
    query = select(IdempotencyKey).where(IdempotencyKey.tenant_id == tenant_id, IdempotencyKey.key == key)
    return (await session.scalars(query.with_for_update())).first()


def _judge(held: IdempotencyKey | None, asked: dict[str, Any], now: datetime) -> Claim | Answer:
    # Without a row, its holder failed and released it between the insert and the look.
    if held is None:
        raise InFlight("A request with this Idempotency-Key has just failed: send it again.", retry_after=1)
    if held.expires_at <= now:
        return _take_over(held, asked)
    if held.fingerprint != asked["fingerprint"]:
        raise InvalidInput("This Idempotency-Key came with another request before: use a new key.")
    if held.status is not None:
        return Answer(held.status, held.body or "")
    if now < held.lease_until:
        wait = (held.lease_until - now).total_seconds()
        raise InFlight("A request with this Idempotency-Key is being answered: wait.", retry_after=min(wait, 2))
    return _take_over(held, asked)


def _take_over(held: IdempotencyKey, asked: dict[str, Any]) -> Claim:
    for name in ("fingerprint", "attempt", "created_at", "lease_until", "expires_at", "status", "body"):
        setattr(held, name, asked[name])
    return Claim(held.tenant_id, held.id, held.attempt)


def _still(claim: Claim) -> tuple[Any, ...]:
    return (
        IdempotencyKey.id == claim.row_id,
        IdempotencyKey.attempt == claim.attempt,
        IdempotencyKey.status.is_(None),
    )


def _answer(status: int, model: BaseModel) -> Answer:
    return Answer(status, model.model_dump_json(by_alias=True))


def _rows(result: Any) -> int:
    assert isinstance(result, CursorResult)
    return int(result.rowcount)
