"""API keys: made once, kept as a hash, turned into a Principal for each request."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cachetools import TTLCache
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.clock import Clock, system_clock
from app.errors import Conflict, InvalidInput, NotFound
from app.governance.models_keys import ApiKey, Tenant
from app.ids import new_id
from app.principal import Principal, Role, Tier
from app.storage.db import Database
from app.storage.repository import TenantRepository

CACHE_S = 5
CACHED_KEYS = 10_000
_TENANT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SECRET = re.compile(r"trl_[A-Za-z0-9_-]{40}")
_HINT_LENGTH = 8


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `secret` is not stored: this is the only time that it is seen."""

    id: str
    secret: str


class ApiKeys(TenantRepository[ApiKey]):
    model = ApiKey
    noun = "API key"


async def create_tenant(session: AsyncSession, tenant_id: str, name: str, now: datetime | None = None) -> Tenant:
    """Adds a tenant.

    Raises InvalidInput for an id that is not a short lower-case name, Conflict where the id is taken.
    """
    if not _TENANT_ID.fullmatch(tenant_id):
        raise InvalidInput(
            f"'{tenant_id[:80]}' cannot be a tenant's id: use 1-63 lower-case letters, digits, '-' and '_', "
            "starting with a letter or a digit."
        )
    _check_text("A tenant's name", name, 200)
    if await session.get(Tenant, tenant_id):
        raise Conflict(f"The tenant '{tenant_id}' exists already.")
    tenant = Tenant(id=tenant_id, name=name, created_at=now or system_clock())
    session.add(tenant)
    await session.flush()
    return tenant


async def require_tenant(session: AsyncSession, tenant_id: str) -> None:
    """Raises NotFound for an unknown tenant."""
    if not await session.get(Tenant, tenant_id):
        raise NotFound(
            f"There is no tenant '{tenant_id[:80]}': make it with `trellis keys create --tenant {tenant_id[:80]} "
            "--new-tenant NAME --label LABEL`; `trellis up` makes the tenant 'local' by itself."
        )


async def create_key(
    session: AsyncSession,
    tenant_id: str,
    role: Role,
    tier: Tier,
    label: str,
    now: datetime,
    expires_at: datetime | None = None,
) -> NewKey:
    """Adds a key to a tenant; without `expires_at` it holds until it is revoked.

    Raises NotFound for an unknown tenant, InvalidInput for an expiry in the past or a label out of bounds.
    """
    _check_text("A key's label", label, 100)
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("'expires_at' is in the past: give a time to come, or none.")
    await require_tenant(session, tenant_id)
    secret = "trl_" + secrets.token_urlsafe(30)
    key = ApiKey(
        id=new_id("key"),
        created_at=now,
        label=label,
        role=role.value,
        tier=tier.value,
        hint=secret[:_HINT_LENGTH],
        secret_hash=_digest(secret),
        expires_at=expires_at,
    )
    ApiKeys(session, tenant_id).add(key)
    await session.flush()
    return NewKey(key.id, secret)


async def revoke_key(session: AsyncSession, tenant_id: str, key_id: str, now: datetime) -> None:
    """Ends a key at once for this transaction's readers, within `CACHE_S` seconds for running processes.

    A key that is revoked already keeps its first time. Raises NotFound, also for another tenant's key.
    """
    key = await ApiKeys(session, tenant_id).get(key_id)
    key.revoked_at = key.revoked_at or now


async def list_keys(session: AsyncSession, tenant_id: str) -> Sequence[ApiKey]:
    """The tenant's keys, oldest first, revoked ones included."""
    return await ApiKeys(session, tenant_id).all()


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal
    expires_at: datetime | None


class KeyRing:
    """Turns the secret of a request into a Principal.

    Found keys are remembered for at most `CACHE_S` seconds, by the hash of the secret or by their id; unknown ones
    are not.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._found: TTLCache[str, _Known] = TTLCache(CACHED_KEYS, CACHE_S, timer=lambda: clock().timestamp())

    def known(self, secret: str) -> Principal | None:
        """The principal where the key was found within the last seconds; asks no database."""
        return self._remembered(_digest(secret))

    def held(self, key_id: str) -> Principal | None:
        """The principal of the key with this id, where it was found within the last seconds; asks no database."""
        return self._remembered(key_id)

    async def authenticate(self, secret: str) -> Principal | None:
        """The key's principal; None for an unknown, revoked or expired key."""
        if not _SECRET.fullmatch(secret):
            return None
        digest = _digest(secret)
        return self._remembered(digest) or await self._look_up(digest, ApiKey.secret_hash)

    async def holder(self, key_id: str) -> Principal | None:
        """The principal of the key with this id; None where it is unknown, revoked or expired."""
        return self._remembered(key_id) or await self._look_up(key_id, ApiKey.id)

    def _remembered(self, mark: str) -> Principal | None:
        entry = self._found.get(mark)
        if entry is None or (entry.expires_at is not None and entry.expires_at <= self._clock()):
            return None
        return entry.principal

    async def _look_up(self, mark: str, column: InstrumentedAttribute[str]) -> Principal | None:
        async with self._db.operator_reading() as session:
            key = (await session.scalars(select(ApiKey).where(column == mark))).first()
        if key is None or not hmac.compare_digest(getattr(key, column.key), mark) or not key.active(self._clock()):
            return None
        principal = Principal(key.tenant_id, key.id, Role(key.role), Tier(key.tier))
        self._found[mark] = _Known(principal, key.expires_at)
        return principal


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _check_text(what: str, text: str, limit: int) -> None:
    if not text.strip() or len(text) > limit or "\0" in text:
        raise InvalidInput(f"{what} must have 1 to {limit} characters.")
