"""Sign-in of a tenant's end users: short-lived tokens that the tenant's own API key issues, nothing stored.

A token is a JSON Web Token (RFC 7519, HS256). Each tenant's are signed with a key of their own, the HMAC-SHA256 of the
tenant's id under the installation's secret: what one tenant's token says can never pass as another's.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import jwt
from cachetools import LRUCache

from app.clock import Clock
from app.errors import Forbidden, InvalidInput
from app.governance.keys import CACHED_KEYS, KeyRing
from app.ids import new_id
from app.principal import Principal, Role

DEFAULT_TTL_S: Final = 900
MAX_TTL_S: Final = 3600
TOKEN_START: Final = "eyJ"  # noqa: S105 - how every JSON Web Token begins: '{"' in base64url
ISSUER: Final = "trellis"
AUDIENCE: Final = "trellis:users"
MAX_TOKEN: Final = 2048
_ALGORITHM = "HS256"
_PURPOSE = "user-token"
_CLAIMS = ("iss", "aud", "sub", "tenant", "iat", "exp", "jti")
_USER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:|-]{0,99}")
# Whose conversation it is, is `Principal.user`: the actor where no user is signed in. A user who is named like an
# actor would read what a key's holder, or an operator, said.
_ACTOR = re.compile(r"key_.*|cli:.*|anonymous|worker")
# Moments are compared by our own clock, the one that the rest of the program goes by.
_CHECKS: Any = {"require": list(_CLAIMS), "verify_exp": False, "verify_iat": False}


@dataclass(frozen=True, slots=True)
class UserToken:
    """A token just made; `id` names it in the audit log."""

    id: str
    token: str
    user_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Signed:
    """What a token with a true signature says; `key_id` is the API key that issued it."""

    tenant_id: str
    user_id: str
    key_id: str
    issued_at: float
    expires_at: float


def check_user_id(user_id: str) -> str:
    """The id. Raises InvalidInput for one that tokens, logs and the audit log do not take."""
    if not _USER_ID.fullmatch(user_id):
        raise InvalidInput(
            "A user's id has 1 to 100 letters, digits and '._:|-', and starts with a letter or a digit. "
            "It is written to logs, so it is no e-mail address: use the opaque id of your own system."
        )
    return user_id


class UserTokens:
    """Issues tokens, and turns one into the principal of an end user.

    Args:
        secret: the installation's; every process that is to take the tokens has the same.
    """

    def __init__(self, secret: bytes, keys: KeyRing, clock: Clock) -> None:
        self._secret = secret
        self._keys = keys
        self._clock = clock
        self._signed: LRUCache[bytes, _Signed] = LRUCache(CACHED_KEYS)

    async def issue(self, issuer: Principal, user_id: str, ttl_s: int = DEFAULT_TTL_S) -> UserToken:
        """A token for one of the issuer's users; it ends at the latest with the API key that issued it.

        Raises Forbidden for a viewer and for whoever holds no API key, InvalidInput for an id or a time out of bounds.
        """
        issuer.require(Role.AGENT)
        if _ACTOR.fullmatch(check_user_id(user_id)):
            raise InvalidInput(f"'{user_id}' is the name of a key, or of the service itself: give the user another id.")
        if not 1 <= ttl_s <= MAX_TTL_S:
            raise InvalidInput(f"'ttl_s' must be between 1 and {MAX_TTL_S} seconds.")
        if await self._keys.holder(issuer.actor) is None:
            raise Forbidden("A user's token is issued by an API key: send one with the request.")
        now = self._clock()
        expires_at = (now + timedelta(seconds=ttl_s)).replace(microsecond=0)
        token_id = new_id("token")
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id,
            "tenant": issuer.tenant_id,
            "iat": int(now.timestamp()),
            "exp": int(expires_at.timestamp()),
            "jti": token_id,
        }
        key = self._key_of(issuer.tenant_id)
        token = jwt.encode(claims, key, algorithm=_ALGORITHM, headers={"kid": issuer.actor})
        return UserToken(token_id, token, user_id, expires_at)

    def known(self, token: str) -> Principal | None:
        """The principal where token and issuing key were checked a moment ago; asks no database."""
        signed = self._signed.get(_digest(token))
        if signed is None or not self._holds_now(signed):
            return None
        return _principal(signed, self._keys.held(signed.key_id))

    async def authenticate(self, token: str) -> Principal | None:
        """The end user; None for a token that is forged, not ours or over, or whose key is revoked or expired.

        A revoked key ends its tokens within `keys.CACHE_S` seconds in running processes.
        """
        digest = _digest(token)
        signed = self._signed.get(digest) or self._read(token)
        if signed is None or not self._holds_now(signed):
            return None
        self._signed[digest] = signed
        return _principal(signed, await self._keys.holder(signed.key_id))

    def _read(self, token: str) -> _Signed | None:
        """What the token says where its signature is its tenant's; None otherwise."""
        if len(token) > MAX_TOKEN:
            return None
        try:
            said = jwt.decode_complete(token, options={"verify_signature": False})
            tenant_id, key_id = said["payload"]["tenant"], said["header"]["kid"]
            key = self._key_of(tenant_id)
            claims = jwt.decode(token, key, algorithms=[_ALGORITHM], audience=AUDIENCE, issuer=ISSUER, options=_CHECKS)
            return _Signed(tenant_id, claims["sub"], key_id, float(claims["iat"]), float(claims["exp"]))
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            return None

    def _holds_now(self, signed: _Signed) -> bool:
        # A second of grace for an issuer whose clock is ahead; an expiry is held to the second.
        return signed.issued_at - 1 <= self._clock().timestamp() < signed.expires_at

    def _key_of(self, tenant_id: str) -> bytes:
        return hmac.digest(self._secret, f"{_PURPOSE}\0{tenant_id}".encode(), hashlib.sha256)


def _principal(signed: _Signed, holder: Principal | None) -> Principal | None:
    """The user behind the key's present holder, whose tenant and tier they share."""
    if holder is None or holder.tenant_id != signed.tenant_id:
        return None
    return Principal(holder.tenant_id, f"user:{signed.user_id}", Role.USER, holder.tier, signed.user_id)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
