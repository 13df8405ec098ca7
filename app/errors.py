"""The errors that a caller may see: each becomes one RFC 9457 problem answer in `app.http.problems`."""

from collections.abc import Mapping
from typing import Any, ClassVar


class TrellisError(Exception):
    """One clear sentence for the caller, with the HTTP status it is answered with.

    Args:
        detail: a sentence that names the thing and says what to do.
        extra: further members of the problem document (JSON values only, no secrets).
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra: Mapping[str, Any] = extra

    def headers(self) -> Mapping[str, str]:
        """Response headers that the status asks for."""
        return {}


class InvalidInput(TrellisError):
    status, code, title = 422, "invalid-input", "The request is not valid"


class Malformed(TrellisError):
    status, code, title = 400, "malformed", "The request cannot be read"


class Unauthenticated(TrellisError):
    status, code, title = 401, "unauthenticated", "A valid API key is needed"

    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class Forbidden(TrellisError):
    status, code, title = 403, "forbidden", "This key may not do that"


class NotFound(TrellisError):
    status, code, title = 404, "not-found", "There is no such thing"


class Conflict(TrellisError):
    status, code, title = 409, "conflict", "The request conflicts with the present state"


class TooLarge(TrellisError):
    status, code, title = 413, "too-large", "The body is too large"


class UnsupportedMedia(TrellisError):
    status, code, title = 415, "unsupported-media", "The body's type is not supported"


class Retryable(TrellisError):
    """An error that passes by itself: carries Retry-After.

    Args:
        retry_after: seconds, at least 1 in the header.
    """

    def __init__(self, detail: str, *, retry_after: float, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.retry_after = retry_after

    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": str(max(1, round(self.retry_after)))}


class RateLimited(Retryable):
    status, code, title = 429, "rate-limited", "Too many requests"


class BudgetExceeded(Retryable):
    status, code, title = 429, "budget-exceeded", "The budget is spent"


class Unavailable(Retryable):
    status, code, title = 503, "unavailable", "Not available at the moment"


class ConfigError(TrellisError):
    """A setting, a file or an environment that the program cannot start with."""

    status, code, title = 500, "configuration", "The configuration is wrong"
