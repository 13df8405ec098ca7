"""Who is asking: made from the credential alone, passed explicitly to every service."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.errors import Forbidden

EVERY_TENANT: Final = "*"
"""In place of a tenant: the operator, or work that spans tenants."""


class Role(StrEnum):
    """Each role may do what the ones before it may.

    `user` is an end user of the tenant, signed in by a token: only endpoints that ask for `CurrentUser` admit one.
    """

    USER = "user"
    VIEWER = "viewer"
    AGENT = "agent"
    ADMIN = "admin"


class Tier(StrEnum):
    FREE = "free"
    STANDARD = "standard"
    PRO = "pro"


_RANK = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Principal:
    """The tenant and the actor behind a request or a job.

    `user_id` is set on an end user's token alone.
    """

    tenant_id: str
    actor: str
    role: Role
    tier: Tier = Tier.STANDARD
    user_id: str | None = None

    @property
    def user(self) -> str:
        """Whose conversation and history it is: the end user, else the key itself."""
        return self.user_id or self.actor

    def has(self, role: Role) -> bool:
        """Whether the principal's role is `role` or ranks above it."""
        return _RANK[self.role] >= _RANK[role]

    def require(self, role: Role) -> None:
        """Raises Forbidden where the principal's role ranks below `role`."""
        if not self.has(role):
            raise Forbidden(
                f"This needs the role '{role}'; the key has '{self.role}'. Ask an admin of the tenant for another key."
            )


def worker(tenant_id: str) -> Principal:
    """The background worker acting for a tenant."""
    return Principal(tenant_id=tenant_id, actor="worker", role=Role.AGENT, tier=Tier.PRO)
