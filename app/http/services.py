"""What this room needs of the container; it never imports the container itself."""

from typing import Protocol

from app.clock import Clock
from app.governance.keys import KeyRing
from app.governance.user_tokens import UserTokens
from app.http.health import Readiness
from app.http.rates import RateLimits
from app.principal import Principal
from app.settings import Settings
from app.storage.db import Database
from app.telemetry.metrics import Metrics


class Services(Protocol):
    """The container's attributes that requests are served with.

    `open_as`: whom a request without a key acts for; None (the rule in production) refuses such a request.
    """

    @property
    def settings(self) -> Settings: ...
    @property
    def db(self) -> Database: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def metrics(self) -> Metrics: ...
    @property
    def keys(self) -> KeyRing: ...
    @property
    def users(self) -> UserTokens: ...
    @property
    def rates(self) -> RateLimits: ...
    @property
    def readiness(self) -> Readiness: ...
    @property
    def open_as(self) -> Principal | None: ...
