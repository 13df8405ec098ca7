"""Is the process alive, is it ready, and what has it measured: no key is needed for any of these."""

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

Check = Callable[[], Awaitable[object]]


class Alive(BaseModel):
    alive: bool = True


class CheckResult(BaseModel):
    """One part: `cause` says why it is not ready; `ms` is the time that its check took."""

    name: str
    ok: bool
    cause: str | None
    ms: float


class Ready(BaseModel):
    ready: bool
    checks: list[CheckResult]


class Readiness:
    """Runs the checks of all parts side by side, each for at most `timeout_s`.

    A check is ready when it returns and not ready when it raises. The result stands for one second, so that
    anybody may ask as often as they like.
    """

    def __init__(self, checks: Mapping[str, Check], *, timeout_s: float = CHECK_TIMEOUT_S) -> None:
        self._checks = dict(checks)
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._last: Ready | None = None
        self._last_at = 0.0

    def add(self, name: str, check: Check) -> None:
        """One more part to be ready, from the next look on."""
        self._checks[name] = check
        self._last = None

    async def run(self) -> Ready:
        """The state of every part."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._last_at > REMEMBER_S:
                results = await asyncio.gather(*(self._one(name, check) for name, check in self._checks.items()))
                self._last = Ready(ready=all(result.ok for result in results), checks=list(results))
                self._last_at = time.monotonic()
            return self._last

    async def _one(self, name: str, check: Check) -> CheckResult:
        started = time.perf_counter()
        cause = await self._cause(name, check)
        return CheckResult(
            name=name, ok=cause is None, cause=cause, ms=round((time.perf_counter() - started) * 1000, 1)
        )

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
    """`/healthz`, `/readyz` and `/metrics`."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="The process answers")
    async def healthz() -> Alive:
        return Alive()

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
