"""What Prometheus answers to queries, as plain values."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import yaml

from dashboards.render.interval import seconds

AT_ONCE: Final = 6
TIMEOUT_S: Final = 20.0
SCRAPE_S: Final = 15.0
"""Where Prometheus does not say how often it scrapes: what Grafana takes then."""

Point = tuple[float, float]


class Away(Exception):
    """Nobody answers at the address."""


class QueryFailed(Exception):
    """Prometheus's own words why a query has no answer."""


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when (Unix seconds), and the seconds between two points."""

    start: float
    end: float
    step: float

    @property
    def length(self) -> float:
        return self.end - self.start

    def share(self, time: float) -> float:
        """Where a moment is between start (0) and end (1); the nearer one for a moment outside."""
        return min(max((time - self.start) / max(self.length, 1e-9), 0.0), 1.0)

    def aligned(self, step: float) -> "Window":
        """With points on multiples of `step`, so that the same moments are asked for again later."""
        return Window(math.floor(self.start / step) * step, math.floor(self.end / step) * step, step)


@dataclass(frozen=True, slots=True)
class Found:
    """One series: its labels and its points (Unix seconds, value), oldest first."""

    labels: Mapping[str, str]
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Exemplar:
    """`value` of one observation at `time`, and the trace that it belongs to."""

    time: float
    value: float
    trace: str


class Prometheus:
    """`async with Prometheus(url) as prometheus:` asks at most six things at once, each for at most 20 seconds.

    Raises Away where nobody answers, QueryFailed where a query is refused or takes too long.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url.rstrip("/")
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout_s))
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        await self._session.close()

    async def over(self, expr: str, window: Window) -> Sequence[Found]:
        """Points of a range, sorted by labels."""
        asked = {"start": window.start, "end": window.end, "step": window.step}
        data = await self._ask("query_range", {"query": expr} | {name: f"{value:.3f}" for name, value in asked.items()})
        return _sorted(_series(data))

    async def at(self, expr: str, time: float) -> Sequence[Found]:
        """One point of each series, at a moment, in the order that the query gives."""
        return _series(await self._ask("query", {"query": expr, "time": f"{time:.3f}"}))

    async def exemplars(self, expr: str, window: Window) -> Sequence[Exemplar]:
        asked = {"query": expr, "start": f"{window.start:.3f}", "end": f"{window.end:.3f}"}
        found = {
            Exemplar(float(each["timestamp"]), float(each["value"]), each["labels"]["trace_id"])
            for group in await self._ask("query_exemplars", asked) or ()
            for each in group["exemplars"]
            if "trace_id" in each["labels"]
        }
        return sorted(found, key=lambda exemplar: (exemplar.time, exemplar.value, exemplar.trace))

    async def scrape_s(self) -> float:
        """How often it scrapes where a job says nothing else; Grafana's 15 seconds where it does not tell."""
        try:
            config = yaml.safe_load((await self._ask("status/config", {}))["yaml"])
            return seconds(config["global"]["scrape_interval"])
        except (QueryFailed, KeyError, TypeError, ValueError, yaml.YAMLError):
            return SCRAPE_S

    async def _ask(self, what: str, asked: Mapping[str, str]) -> Any:
        async with self._turn:
            try:
                async with self._session.get(f"{self._url}/api/v1/{what}", params=asked) as response:
                    answer = await response.json(content_type=None)
            except TimeoutError:
                raise QueryFailed(f"no answer within {self._timeout_s:g} s") from None
            except ValueError:
                raise Away(f"{self._url} answers, but not as Prometheus does") from None
            except aiohttp.ClientError as error:
                raise Away(f"no Prometheus answers at {self._url} ({error})") from None
        if not isinstance(answer, dict) or "status" not in answer:
            raise Away(f"{self._url} answers, but not as Prometheus does")
        if answer["status"] != "success":
            raise QueryFailed(str(answer.get("error", "refused without a reason")))
        return answer["data"]


def _series(data: Mapping[str, Any]) -> list[Found]:
    match data["resultType"]:
        case "matrix":
            return [Found(each["metric"], [_point(p) for p in each["values"]]) for each in data["result"]]
        case "vector":
            return [Found(each["metric"], [_point(each["value"])]) for each in data["result"]]
        case "scalar":
            return [Found({}, [_point(data["result"])])]
    return []


def _point(pair: Sequence[Any]) -> Point:
    return float(pair[0]), float(pair[1])


def _sorted(found: Sequence[Found]) -> Sequence[Found]:
    return sorted(found, key=lambda each: sorted(each.labels.items()))
