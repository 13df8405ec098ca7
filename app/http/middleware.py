"""The edge: the one ASGI middleware that every request passes."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import structlog
from prometheus_client import Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from app.errors import TrellisError
from app.http.auth import Gate
from app.http.body import BodyGuard
from app.http.health import Readiness
from app.http.problems import from_database, from_error, from_http, from_unforeseen
from app.http.shortcut import PathPattern, Shortcut
from app.http.streaming import wants_stream
from app.http.strict import refuse_nul_target
from app.ids import new_id
from app.telemetry import spans
from app.telemetry.metrics import Metrics

_log = structlog.get_logger()

UNMATCHED = "unmatched"
PROBES = frozenset({"/healthz", "/startupz", "/readyz", "/metrics"})
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_API_CSP = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
Series = tuple[Counter, Histogram]
_HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")


class Edge:
    """Gives each request an id, bounds, a principal (under `protected`), headers, a log line and metrics.

    Paths that start with one of `protected` are refused without a key before anything of their body is read,
    whether or not their endpoint asks for the principal. `body_limits` holds bytes for single paths; a path may have
    one part in braces, which stands for any one part (`/v1/bots/{bot}/documents`). `shortcuts` are answered here where
    they have an answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        gate: Gate,
        metrics: Metrics,
        readiness: Readiness,
        protected: tuple[str, ...],
        body_limit: int,
        body_limits: Mapping[str, int],
        shortcuts: Sequence[Shortcut] = (),
    ) -> None:
        self.app = app
        self.gate = gate
        self.metrics = metrics
        self.readiness = readiness
        self.protected = protected
        self.body_limit = body_limit
        self.body_limits = {path: limit for path, limit in body_limits.items() if "{" not in path}
        self.body_patterns = [(PathPattern(path), limit) for path, limit in body_limits.items() if "{" in path]
        self.shortcuts = tuple(shortcuts)
        self._series: dict[tuple[str, str, int], Series] = {}

    def limit_of(self, path: str) -> int:
        """Bytes that a body at this path may have."""
        limit = self.body_limits.get(path)
        if limit is not None:
            return limit
        for pattern, size in self.body_patterns:
            if pattern.part(path) is not None:
                return size
        return self.body_limit

    def series(self, route: str, method: str, status_class: int) -> Series:
        """What a request of this kind is counted and timed by; looked up once, for it is asked at every request."""
        key = (route, method, status_class)
        known = self._series.get(key)
        if known is None:
            count, seconds = self.metrics.http_requests, self.metrics.http_request_duration_seconds
            # Failures are there at 0 before the first one, which is no increase otherwise.
            count.labels(route, method, "5xx")
            known = count.labels(route, method, f"{status_class}xx"), seconds.labels(route, method)
            self._series[key] = known
        return known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(self, scope, send)
        tokens = bind_contextvars(request_id=exchange.request_id)
        self.metrics.http_in_flight.inc()
        try:
            with exchange.traced():
                try:
                    await exchange.serve(receive)
                finally:
                    exchange.record()
        finally:
            self.metrics.http_in_flight.dec()
            reset_contextvars(**tokens)
            structlog.contextvars.unbind_contextvars("tenant")


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_root", "_send", "edge", "guard", "request_id", "route", "scope", "sent", "started", "status")

    def __init__(self, edge: Edge, scope: Scope, send: Send) -> None:
        self.edge = edge
        self.scope = scope
        self.started = time.perf_counter()
        self.status = 0
        self.sent = 0
        self.route: str | None = None
        self.guard: BodyGuard | None = None
        self._send = send
        self._root: str = scope.get("root_path", "")
        self.request_id = _request_id(scope["headers"])
        scope.setdefault("state", {})["request_id"] = self.request_id

    def traced(self) -> AbstractContextManager[object]:
        """The request's span, around everything; probes have none."""
        scope = self.scope
        if scope["path"].removeprefix(self._root) in PROBES:
            return nullcontext()
        came_with = _header(scope, b"traceparent")
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        return spans.request(method, scope["path"], scope.get("scheme", "http"), came_with, self.request_id)

    async def serve(self, receive: Receive) -> None:
        try:
            inside = await self._enter(receive)
            answer = self._at_hand()
            if answer is None:
                await self.edge.app(self.scope, inside, self.send)
            else:
                await self._answer(answer)
        except TrellisError as error:
            await self._fail(from_error(self.scope, error), error)
        except HTTPException as error:
            await self._fail(from_http(self.scope, error), error)
        except Exception as error:
            stated = from_database(self.scope, error)
            if stated is None:
                _log.exception("unforeseen error")
            await self._fail(stated or from_unforeseen(self.scope), error)

    async def _enter(self, receive: Receive) -> Receive:
        path = self.scope["path"].removeprefix(self._root)
        refuse_nul_target(path, self.scope["query_string"])
        self.guard = self.scope["state"]["body"] = BodyGuard(self.scope, receive, self.edge.limit_of(path))
        if path.startswith(self.edge.protected):
            await self.edge.gate.admit(self.scope)
        return await self.guard.prepare()

    def _at_hand(self) -> bytes | None:
        """The whole answer where a shortcut has it: its route is then the request's."""
        scope = self.scope
        if not self.edge.shortcuts or scope["method"] != "POST" or self.guard is None or self.guard.json is None:
            return None
        principal, path = scope["state"].get("principal"), scope["path"].removeprefix(self._root)
        if principal is None or wants_stream(_header(scope, b"accept")):
            return None
        for shortcut in self.edge.shortcuts:
            part = shortcut.pattern.part(path)
            if part is not None:
                answer = shortcut.peek(principal, part, self.guard.json)
                self.route = shortcut.template if answer is not None else None
                return answer
        return None

    async def _answer(self, body: bytes) -> None:
        assert self.route is not None
        headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def _fail(self, answer: Response, error: Exception) -> None:
        if self.status:
            # Half an answer is out: only a broken connection can tell the client.
            raise error
        await answer(self.scope, _nothing, self.send)

    async def send(self, message: Message) -> None:
        """Passes the answer on, with our headers, and notes its status and size."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._headers(message.get("headers", ()))]
        elif message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
        await self._send(message)

    def _headers(self, present: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        given = {bytes(name).lower(): value for name, value in present}
        added = [header for header in _SECURITY if header[0] not in given]
        # A page brings the policy that its own scripts and styles need.
        if _API_CSP[0] not in given and not given.get(b"content-type", b"").startswith(b"text/html"):
            added.append(_API_CSP)
        if self.scope.get("scheme") == "https":
            added.append(_HSTS)
        allowance = self.scope["state"].get("allowance")
        if allowance is not None:
            added.extend(allowance.headers())
        if self.edge.readiness.ending:
            # The next request of this client shall find another process.
            added.append((b"connection", b"close"))
        added.append((b"x-request-id", self.request_id.encode()))
        return added

    def record(self) -> None:
        """One log line, one count, one duration; a request without an answer counts as 500."""
        seconds = time.perf_counter() - self.started
        status = self.status or 500
        route = self.route or route_template(self.scope, self._root)
        method = self.scope["method"] if self.scope["method"] in METHODS else "other"
        spans.answered(method, route, status)
        count, durations = self.edge.series(route, method, status // 100)
        count.inc()
        durations.observe(seconds)
        log = _log.debug if route in PROBES else _log.info
        log("request", **self._line(route, method, status, seconds))

    def _line(self, route: str, method: str, status: int, seconds: float) -> dict[str, Any]:
        return {
            "method": method,
            "route": route,
            "path": self.scope["path"][:200],
            "status": status,
            "ms": round(seconds * 1000, 2),
            "bytes_in": self.guard.size if self.guard else 0,
            "bytes_out": self.sent,
            "actor": self.scope["state"].get("actor"),
        }


def route_template(scope: Scope, root_path: str = "") -> str:
    """The matched route's path with its parameters' names (`/v1/leads/{lead_id}`), so that labels stay bounded.

    `root_path` is the one that the request came with: a mounted app adds its own place to it.
    """
    mount = scope.get("root_path", "").removeprefix(root_path)
    route = scope.get("route")
    if route is None:
        return f"{mount}/{{path}}" if mount else UNMATCHED
    # A router that is included under a prefix keeps its own path; the whole one is in the effective context.
    effective = scope.get("fastapi", {}).get("effective_route_context")
    path = getattr(effective, "path_format", None) or getattr(route, "path_format", None) or route.path
    return f"{mount}{path}"


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return new_id("req")


def _header(scope: Scope, wanted: bytes) -> str | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return str(value.decode("latin-1"))
    return None


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
