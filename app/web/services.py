"""What this room needs of the container; it never imports the container itself."""

from collections.abc import Mapping
from typing import Protocol

from app.agent.tools.approvals import Approvals, Resume
from app.clock import Clock
from app.governance.audit import Audit
from app.governance.flags import Flags
from app.governance.keys import KeyRing
from app.principal import Principal
from app.settings import Settings
from app.storage.db import Database
from app.web.pack_pages import PackPages


class FailureLimit(Protocol):
    """The limit on failed authentications of one client address; `app.http.rates.RateLimits` is one."""

    async def check_failures(self, address: str) -> None: ...
    async def failed(self, address: str) -> None: ...


class Runtime(Protocol):
    """The part of a pack at work that the console uses; see `app.pack.PackRuntime`."""

    @property
    def pages(self) -> PackPages | None: ...


class Services(Protocol):
    """The container's attributes that the console is served with.

    `open_as`: whom a visitor without a session acts for; None (the rule in production) asks them to sign in.
    """

    @property
    def settings(self) -> Settings: ...
    @property
    def db(self) -> Database: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def keys(self) -> KeyRing: ...
    @property
    def rates(self) -> FailureLimit: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def flags(self) -> Flags: ...
    @property
    def approvals(self) -> Approvals: ...
    @property
    def open_as(self) -> Principal | None: ...
    @property
    def runtimes(self) -> Mapping[str, Runtime]: ...
    @property
    def resumers(self) -> Mapping[str, Resume]: ...
