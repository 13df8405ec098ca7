"""What Prometheus says now: values of a page's queries, and which versions ran when."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp
import orjson
from yarl import URL

from app import beside
from app.administration.oncall.alerts import shown
from app.administration.oncall.away import Away
from app.settings import Settings

TIMEOUT_S: Final = 10.0
AT_A_TIME: Final = 6
LARGEST_BYTES: Final = 4_000_000
DEPLOYS_OF: Final = timedelta(hours=24)
STEP_S: Final = 60
GAP_S: Final = 600
"""A version that nobody ran for so long begins anew: a scrape that is missed is no deploy."""
VERSIONS: Final = "sum by (version) (trellis_build_info)"
STARTED: Final = 'max by (job) (process_start_time_seconds{job=~"trellis-api|trellis-worker"})'
_NOT_ITS_OWN: Final = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, OSError)
_LATEST_S: Final = 4e9
"""Of what is a time, in seconds since 1970."""
NOWHERE: Final = (
    "No values: it is not known where Prometheus is. Set TRELLIS_PROMETHEUS_URL, for example after `kubectl -n "
    "trellis-telemetry port-forward svc/prometheus 9090`."
)


@dataclass(frozen=True, slots=True)
class Value:
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Ran:
    """A version, from when to when it ran. None: since before, or still. `processes`: as many as ran last."""

    version: str
    began: datetime | None
    ended: datetime | None
    processes: int


class Prometheus:
    """One server. What it answers is as untrusted as what it scrapes."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        whole = URL(url)
        self._url = whole.with_user(None).with_password(None)
        self._headers = (
            {"Authorization": aiohttp.encode_basic_auth(whole.user, whole.password or "")} if whole.user else {}
        )
        self._turns = asyncio.Semaphore(AT_A_TIME)

    @property
    def shown(self) -> str:
        """Its address without credentials."""
        return str(self._url.origin())

    async def values(self, query: str) -> Sequence[Value]:
        """Raises Away with one sentence, also for a query that it refuses."""
        found = await self._ask("query", {"query": query, "timeout": f"{TIMEOUT_S:g}s"})
        try:
            if found["resultType"] == "scalar":
                return [Value({}, float(found["result"][1]))]
            return [Value(_labels(one["metric"]), float(one["value"][1])) for one in found["result"]]
        except _NOT_ITS_OWN as error:
            raise self._stranger() from error

    async def deploys(self, now: datetime) -> Sequence[Ran]:
        """Versions of the last day, the newest first. Raises Away."""
        begin = now - DEPLOYS_OF
        asked = {"query": VERSIONS, "start": f"{begin.timestamp():.0f}", "end": f"{now.timestamp():.0f}"}
        found = await self._ask("query_range", {**asked, "step": str(STEP_S)})
        try:
            series = {
                shown(one["metric"].get("version", "")): [(float(at), float(value)) for at, value in one["values"]]
                for one in found["result"]
            }
            return runs(series, now)
        except _NOT_ITS_OWN as error:
            raise self._stranger() from error

    async def started(self) -> Sequence[Value]:
        """When the youngest process of each job began, seconds since 1970. Raises Away."""
        return [one for one in await self.values(STARTED) if 0 < one.value < _LATEST_S]

    async def _ask(self, what: str, form: Mapping[str, str]) -> Any:
        address = self._url / "api" / "v1" / what
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                self._turns,
                self._session.post(
                    address, data=form, headers=self._headers, timeout=timeout, allow_redirects=False
                ) as answer,
            ):
                document = orjson.loads(await self._body(answer))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Away(f"Prometheus at {self.shown} does not answer ({type(error).__name__}).") from error
        except orjson.JSONDecodeError as error:
            raise self._stranger() from error
        if not isinstance(document, dict) or "status" not in document:
            raise self._stranger()
        if document["status"] != "success":
            raise Away(f"Prometheus refuses the query: {shown(document.get('error', 'it does not say why'))}.")
        return document.get("data")

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for part in answer.content.iter_any():
            body += part
            if len(body) > LARGEST_BYTES:
                raise Away(f"Prometheus at {self.shown} answers with more than {LARGEST_BYTES // 1_000_000} MB.")
        return bytes(body)

    def _stranger(self) -> Away:
        return Away(f"What answers at {self.shown} is no Prometheus: check TRELLIS_PROMETHEUS_URL.")


def runs(series: Mapping[str, Sequence[tuple[float, float]]], now: datetime) -> Sequence[Ran]:
    """When each version ran, from its samples (seconds, processes); the newest first."""
    first = min((samples[0][0] for samples in series.values() if samples), default=0.0)
    found = [
        _ran(version, part, first, now.timestamp()) for version, samples in series.items() for part in _parts(samples)
    ]
    return sorted(found, key=lambda ran: ran.began or datetime.min.replace(tzinfo=UTC), reverse=True)


def _parts(samples: Sequence[tuple[float, float]]) -> Sequence[Sequence[tuple[float, float]]]:
    parts: list[list[tuple[float, float]]] = []
    for sample in samples:
        if parts and sample[0] - parts[-1][-1][0] <= GAP_S:
            parts[-1].append(sample)
        else:
            parts.append([sample])
    return parts


def _ran(version: str, part: Sequence[tuple[float, float]], first: float, now: float) -> Ran:
    """The first of all samples says nothing of when its version began."""
    (begins, _), (ends, processes) = part[0], part[-1]
    began = None if begins == first else datetime.fromtimestamp(begins, UTC)
    ended = datetime.fromtimestamp(ends, UTC) if now - ends > GAP_S else None
    return Ran(version, began, ended, round(processes))


def _labels(metric: Mapping[str, str]) -> Mapping[str, str]:
    return {shown(name): shown(value) for name, value in metric.items() if name != "__name__"}


def address(settings: Settings) -> str | None:
    """The one that is set, else the one that runs beside this machine's server."""
    return settings.prometheus_url or beside.prometheus_address(settings)


def number(value: float) -> str:
    """As a person reads it: no exponent below a million million."""
    if math.isnan(value) or math.isinf(value):
        return str(value)
    if value == round(value) and abs(value) < 1e12:
        return f"{value:.0f}"
    return f"{value:.4g}"
