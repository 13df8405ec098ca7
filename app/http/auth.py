"""Who is asking, and may they ask more: the API key or user token becomes the Principal, the rate limits are kept."""

from typing import Protocol

import structlog
from starlette.types import Scope

from app.errors import Unauthenticated
from app.governance.keys import KeyRing
from app.governance.user_tokens import TOKEN_START, UserTokens
from app.http.rates import RateLimits, rate_limited, user_limited
from app.principal import Principal

_log = structlog.get_logger()

_HOW = "Send an API key, as 'Authorization: Bearer <key>' or as 'X-API-Key: <key>'."
_UNKNOWN_KEY = f"This API key is unknown, revoked or expired. {_HOW}"
_SIGN_IN_AGAIN = (
    "This user token is expired, or was not issued here, or its API key ended: sign in again for a new one, and send "
    "it as 'Authorization: Bearer <token>'."
)


class _Ring(Protocol):
    """Credentials of one kind, and whom they stand for; `known` asks nothing but this process."""

    def known(self, secret: str, /) -> Principal | None: ...

    async def authenticate(self, secret: str, /) -> Principal | None: ...


def credential(scope: Scope) -> str | None:
    """The key that the request carries: a bearer token, else `X-API-Key`; None without either."""
    fallback = None
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return str(value[7:].strip().decode("latin-1"))
        if name == b"x-api-key":
            fallback = value.strip().decode("latin-1")
    return fallback


class Gate:
    """Admits a request: authenticates it, counts it, remembers the outcome in the request's state.

    `open_as`: whom a request without any key acts for; None refuses it.
    """

    def __init__(self, keys: KeyRing, users: UserTokens, rates: RateLimits, open_as: Principal | None) -> None:
        self._keys = keys
        self._users = users
        self._rates = rates
        self._open_as = open_as

    async def admit(self, scope: Scope) -> Principal:
        """The request's principal; a request is admitted, and counted, once.

        Raises Unauthenticated without a valid key, RateLimited when the key (or, after failures, the address)
        has spent its allowance.
        """
        state = scope["state"]
        principal: Principal | None = state.get("principal")
        if principal is not None:
            return principal
        principal = await self._authenticate(scope)
        structlog.contextvars.bind_contextvars(tenant=principal.tenant_id)
        # For the log line, also of one that is refused now: whose key it is that sends too much.
        state["actor"] = principal.actor
        allowed, state["allowance"] = await self._rates.spend(principal)
        if not allowed:
            raise rate_limited(state["allowance"])
        state["principal"] = principal
        return principal

    async def _authenticate(self, scope: Scope) -> Principal:
        secret = credential(scope)
        if secret is None:
            if self._open_as is None:
                raise Unauthenticated(_HOW)
            return self._open_as
        if secret.startswith(TOKEN_START):
            return await self._holder(self._users, secret, scope, _SIGN_IN_AGAIN)
        return await self._holder(self._keys, secret, scope, _UNKNOWN_KEY)

    async def _holder(self, ring: _Ring, secret: str, scope: Scope, unknown: str) -> Principal:
        # A key seen a moment ago passes even where its address is blocked for the failures of a neighbour.
        principal = ring.known(secret)
        if principal is not None:
            return principal
        address = scope["client"][0] if scope.get("client") else ""
        await self._rates.check_failures(address)
        principal = await ring.authenticate(secret)
        if principal is None:
            await self._rates.failed(address)
            _log.warning("authentication failed", address=address)
            raise Unauthenticated(unknown)
        return principal

    async def spend_user(self, scope: Scope, name: str, per_minute: int) -> None:
        """Counts one use by the admitted user of what has a limit of its own; its state goes into the answer's headers.

        Raises RateLimited beyond it.
        """
        state = scope["state"]
        allowed, state["allowance"] = await self._rates.spend_user(state["principal"], name, per_minute)
        if not allowed:
            raise user_limited(state["allowance"])
