"""Who is looking: the session cookie, checked against its API key on every request, and the forms' tokens."""

import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError

from app.clock import Clock
from app.governance.keys import KeyRing
from app.principal import Principal
from app.storage.db import Database
from app.web.models import UsedTicket
from app.web.signing import keyed_hash, read_ticket, sign, unsign

_SESSION, _FORM = "session", "form"


@dataclass(frozen=True, slots=True)
class Visit:
    """A request's visitor; no principal before they sign in.

    `binding` is what the tokens of their forms are tied to: the session, or without one a cookie of its own, that
    the answer to a `fresh` visitor sets.
    """

    principal: Principal | None
    binding: str
    fresh: bool = False


class Sessions:
    """Signs sessions, and reads them back as long as their key holds.

    A session names its key and when it ends; tenant, role and tier are the key's own, as the key ring knows them.
    """

    def __init__(self, key: bytes, db: Database, keys: KeyRing, clock: Clock, life: timedelta) -> None:
        self.life = life
        self._key = key
        self._db = db
        self._keys = keys
        self._clock = clock

    def issue(self, key_id: str) -> str:
        """A new session for the API key with this id: the cookie's value."""
        expires = int((self._clock() + self.life).timestamp())
        return sign(self._key, _SESSION, {"key": key_id, "id": secrets.token_urlsafe(16), "expires": expires})

    async def visit(self, cookie: str) -> Visit | None:
        """The session's visitor; None where it is forged or over, or its key is revoked or expired."""
        payload = unsign(self._key, _SESSION, cookie)
        if payload is None or datetime.fromtimestamp(payload["expires"], UTC) <= self._clock():
            return None
        principal = await self._keys.holder(payload["key"])
        return Visit(principal, payload["id"]) if principal else None

    async def redeem(self, token: str) -> Principal | None:
        """Whom a ticket stands for, once; None where it is forged, too old or used, or its key ended."""
        ticket = read_ticket(self._key, token, self._clock())
        principal = await self._keys.holder(ticket.key_id) if ticket else None
        if ticket is None or principal is None:
            return None
        try:
            async with self._db.operator_transaction() as session:
                await session.execute(delete(UsedTicket).where(UsedTicket.expires_at <= self._clock()))
                session.add(UsedTicket(nonce=ticket.nonce, expires_at=ticket.expires_at))
        except IntegrityError:
            return None
        return principal

    def form_token(self, binding: str) -> str:
        """What a form must carry to be taken from this visitor."""
        return keyed_hash(self._key, _FORM, binding)

    def is_form_token(self, binding: str, token: str) -> bool:
        return hmac.compare_digest(self.form_token(binding).encode(), token.encode())
