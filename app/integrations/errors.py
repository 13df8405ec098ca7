"""What an integration may raise beside InvalidInput, NotFound and ConfigError."""

from collections.abc import Mapping
from typing import Any

from app.errors import Conflict, TrellisError


class IntegrationError(TrellisError):
    """A vendor refused, or could not be asked.

    Args:
        retryable: the whole operation may be tried again with the same key.
        retry_after: seconds to wait before that, where the vendor said so.
        uncertain: the request left and no answer came back, so it may have been carried out.
    """

    status, code, title = 502, "integration", "Another system did not do what it was asked"

    def __init__(
        self,
        detail: str,
        *,
        retryable: bool,
        retry_after: float | None = None,
        uncertain: bool = False,
        **extra: Any,
    ) -> None:
        super().__init__(detail, **extra)
        self.retryable = retryable
        self.retry_after = retry_after
        self.uncertain = uncertain

    def headers(self) -> Mapping[str, str]:
        if not self.retryable or self.retry_after is None:
            return {}
        return {"Retry-After": str(max(1, round(self.retry_after)))}


class SlotTaken(Conflict):
    """The slot was free when it was offered and is not any more: offer another one."""

    code, title = "slot-taken", "The slot is not free"


class KeyReused(Conflict):
    """The key belongs to something that is no longer there, so it cannot be replayed."""

    code, title = "key-reused", "The key was used before"
