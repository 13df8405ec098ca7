"""Is the process alive, has it started, is it ready, and what has it measured: no key is needed for any of these."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel

from app.errors import TrellisError

_log = structlog.get_logger()

CHECK_TIMEOUT_S = 2.0
REMEMBER_S = 1.0
ENDING = "The process is about to end: it takes no more work."

Check = Callable[[], Awaitable[object]]
Told = Callable[[str, bool], None]
"""Hears the name of a part, and whether it is well."""


class Alive(BaseModel):
    alive: bool = True


class CheckResult(BaseModel):
    """One part: `cause` says what is wrong with it; `ms` is the time that its check took.

    Without a part that is `required` the process serves nothing; without another it serves less, or slower.
    """

    name: str
    ok: bool
    required: bool
    cause: str | None
    ms: float


class Ready(BaseModel):
    """`degraded`: ready or not, some part that is not required is away."""

    ready: bool
    degraded: bool
    checks: list[CheckResult]


class Started(BaseModel):
    started: bool
    checks: list[CheckResult]


class Readiness:
    """Runs the checks of all parts side by side, each for at most `timeout_s`.

    A part is well when its check returns and not when it raises. The result stands for one second, so that anybody may
    ask as often as they like.

    Args:
        checks: of the parts that are required.
        optional: of those that the process does without.
        startup: what has to hold once; a process that has started is not asked again.
        told: hears of each part at each look.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        optional: Mapping[str, Check] | None = None,
        *,
        startup: Mapping[str, Check] | None = None,
        told: Told = lambda _part, _ok: None,
        timeout_s: float = CHECK_TIMEOUT_S,
    ) -> None:
        self._checks = dict(checks)
        self._optional = dict(optional or {})
        self._startup = dict(startup or {})
        self._told = told
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._last: Ready | None = None
        self._last_at = 0.0
        self._started: Started | None = None
        self._ending = False

    @property
    def ending(self) -> bool:
        """Whether the process was asked to end."""
        return self._ending

    def end(self) -> None:
        """Not ready from now on, whatever its parts say."""
        self._ending = True

    def add(self, name: str, check: Check) -> None:
        """One more part to be ready, from the next look on."""
        self._checks[name] = check
        self._last = None

    async def run(self) -> Ready:
        """The state of every part."""
        if self._ending:
            left = CheckResult(name="process", ok=False, required=True, cause=ENDING, ms=0)
            return Ready(ready=False, degraded=False, checks=[left])
        async with self._lock:
            if self._last is None or time.monotonic() - self._last_at > REMEMBER_S:
                self._last = await self._look()
                self._last_at = time.monotonic()
            return self._last

    async def started(self) -> Started:
        """Whether everything is there that a start needs."""
        async with self._lock:
            if self._started is None or not self._started.started:
                results = await self._all(self._startup, required=True)
                self._started = Started(started=all(result.ok for result in results), checks=results)
            return self._started

    async def _look(self) -> Ready:
        needed, others = await asyncio.gather(
            self._all(self._checks, required=True), self._all(self._optional, required=False)
        )
        for result in (*needed, *others):
            self._told(result.name, result.ok)
        ready, degraded = all(result.ok for result in needed), not all(result.ok for result in others)
        return Ready(ready=ready, degraded=degraded, checks=needed + others)

    async def _all(self, checks: Mapping[str, Check], *, required: bool) -> list[CheckResult]:
        return list(await asyncio.gather(*(self._one(name, check, required) for name, check in checks.items())))

    async def _one(self, name: str, check: Check, required: bool) -> CheckResult:
        started = time.perf_counter()
        cause = await self._cause(name, check)
        ms = round((time.perf_counter() - started) * 1000, 1)
        return CheckResult(name=name, ok=cause is None, required=required, cause=cause, ms=ms)

    async def _cause(self, name: str, check: Check) -> str | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await check()
        except TimeoutError:
            return f"no answer within {self._timeout_s:g} s"
        except TrellisError as error:
            return error.detail
        except Exception as error:
            # Anybody may read the answer; the text of a foreign error may name hosts and users.
            _log.warning("not ready", part=name, exc_info=error)
            return f"{type(error).__name__}: see the log"
        return None


def health_router(readiness: Readiness, registry: CollectorRegistry) -> APIRouter:
    """`/healthz`, `/startupz`, `/readyz` and `/metrics`."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="The process answers")
    async def healthz() -> Alive:
        return Alive()

    @router.get(
        "/startupz", summary="The process has started", response_model=Started, responses={503: {"model": Started}}
    )
    async def startupz() -> Response:
        state = await readiness.started()
        return JSONResponse(state.model_dump(), status_code=200 if state.started else 503)

    @router.get("/readyz", summary="Every part is ready", response_model=Ready, responses={503: {"model": Ready}})
    async def readyz() -> Response:
        state = await readiness.run()
        return JSONResponse(state.model_dump(), status_code=200 if state.ready else 503)

    @router.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        encode, media_type = _encoder(request.headers.get("accept", ""))
        # Rendering all series takes milliseconds; a thread leaves the loop to the requests.
        return Response(await asyncio.to_thread(encode, registry), media_type=media_type)

    return router


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError, IndexError):
        # The library trips over a version that is no number; a scraper that sends one gets the plain format.
        return choose_encoder("")
