"""What a scenario used and what the app said of itself: processor, memory, our own share of requests, model calls.

Processor time is read from /proc for every part of the house and everything below it, once a second, so that a process
that ends meanwhile is counted to its last reading; memory is its share of what it has in use (Pss). Our own share is
what the app wrote down with each decision, and beside it the difference of two readings of its histogram
`trellis_own_share_seconds`.
"""

import asyncio
import itertools
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from loadtest.house import House
from loadtest.house.decisions import newest, own_shares
from loadtest.house.processes import PROC, children, families
from loadtest.results import PartUse, Quantiles

EVERY_S: Final = 1.0
MEMORY_EVERY: Final = 5
"""Of these readings, one of the memory."""
LEAST_FOR_P99: Final = 1_000
K6: Final = "k6"
GATE: Final = "gate"
"""This process, which starts and measures the others."""
REST: Final = "everything else on the machine"
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_OWN_SHARE: Final = "trellis_own_share_seconds"
_LAG: Final = "trellis_event_loop_lag_seconds"
_IN_FLIGHT: Final = "max_over_time(sum(trellis_http_in_flight)[{}s:1s])"


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts up to each bound, ascending, the last one infinite; `total` is the sum of what was observed."""

    bounds: tuple[float, ...] = (math.inf,)
    counts: tuple[float, ...] = (0.0,)
    total: float = 0.0

    @property
    def count(self) -> int:
        return round(self.counts[-1])

    def within(self, limit: float) -> float | None:
        """The share of observations up to a bound, exactly; None where there are none.

        Raises ValueError where `limit` is no bound.
        """
        if limit not in self.bounds:
            raise ValueError(f"{limit} is no bound of the histogram: it has {self.bounds}")
        return self.counts[self.bounds.index(limit)] / self.counts[-1] if self.counts[-1] else None

    def quantile(self, share: float) -> float:
        """Linear within its bucket, as PromQL's `histogram_quantile`; the highest finite bound where it is above it."""
        wanted = share * self.counts[-1]
        below, least = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= wanted and count > below:
                return least if math.isinf(bound) else least + (bound - least) * (wanted - below) / (count - below)
            below, least = count, bound if math.isfinite(bound) else least
        return least

    def quantiles(self) -> Quantiles | None:
        """None where nothing was observed; no p99 of fewer than 1,000. `worst_s` is the bound that all are within."""
        if not self.count:
            return None
        return Quantiles(
            count=self.count,
            mean_s=self.total / self.counts[-1],
            p50_s=self.quantile(0.5),
            p95_s=self.quantile(0.95),
            p99_s=self.quantile(0.99) if self.count >= LEAST_FOR_P99 else None,
            worst_s=self.quantile(1.0),
        )


def histogram(texts: Sequence[str], name: str) -> Histogram:
    """Of one metric in several texts of /metrics, all its series and processes together."""
    buckets: dict[float, float] = {}
    total = 0.0
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples if family.name == name else ():
                if sample.name == f"{name}_bucket":
                    bound = float(sample.labels["le"])
                    buckets[bound] = buckets.get(bound, 0.0) + sample.value
                elif sample.name == f"{name}_sum":
                    total += sample.value
    bounds = tuple(sorted(buckets)) or (math.inf,)
    return Histogram(bounds, tuple(buckets.get(bound, 0.0) for bound in bounds), total)


def between(before: Histogram, after: Histogram) -> Histogram:
    """What was observed meanwhile. What was not there before counts from nothing."""
    if before.bounds != after.bounds:
        before = Histogram(after.bounds, (0.0,) * len(after.bounds))
    counts = tuple(late - early for late, early in zip(after.counts, before.counts, strict=True))
    return Histogram(after.bounds, counts, after.total - before.total)


@dataclass
class Use:
    """What processes of one part have used so far: by pid its seconds, the peak of their memory together in MiB."""

    seconds: dict[int, float] = field(default_factory=dict)
    began: dict[int, float] = field(default_factory=dict)
    memory_mib: float = 0.0

    def read(self, pids: Sequence[int], *, first: bool, memory: bool = True) -> None:
        """`first`: what they used until now counts for nothing. `memory`: its reading costs a millisecond each."""
        held = 0.0
        for pid in pids:
            with suppress(OSError):
                used = cpu_s(pid)
                # One that was not there before has used all of it since.
                self.began.setdefault(pid, used if first else 0.0)
                self.seconds[pid] = used
                held += memory_mib(pid) if memory else 0.0
        self.memory_mib = max(self.memory_mib, held)

    @property
    def cpu_s(self) -> float:
        return sum(used - self.began[pid] for pid, used in self.seconds.items())


def cpu_s(pid: int) -> float:
    """Seconds of processor of a process, its threads included. Raises OSError where it is gone."""
    columns = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(columns[11]) + int(columns[12])) * _TICK_S


def memory_mib(pid: int) -> float:
    """Its share of the memory that it has in use (Pss), so that what processes have in common counts once."""
    for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def machine_cpu_s() -> float:
    """Seconds that all cores together were busy since the start of the machine; 0 where it does not tell."""
    with suppress(OSError):
        columns = [int(part) for part in (PROC / "stat").read_text().splitlines()[0].split()[1:9]]
        return (sum(columns) - columns[3] - columns[4]) * _TICK_S
    return 0.0


@dataclass
class Meter:
    """What happened since it began; whole when its block has ended.

    `own_share`: of the answers and decisions that asked a model, exact, by what the app wrote down with each;
    `own_share_histogram`: the app's histogram of the same, of which 0.1 s is a bound. `model_calls`: that the stub
    answered or refused, `model_kinds` by what was asked. `in_flight`: the most requests that the API answered at a
    time, of what Prometheus saw. `lag`: of the event loops of all processes.
    """

    house: House
    began: float = 0.0
    ended: float = 0.0
    parts: tuple[PartUse, ...] = ()
    own_share: Quantiles | None = None
    own_share_histogram: Histogram = Histogram()
    lag: Histogram = Histogram()
    in_flight: float | None = None
    model_calls: int = 0
    model_kinds: Mapping[str, int] = field(default_factory=dict)
    model_cpu_s: float = 0.0


@asynccontextmanager
async def meter(house: House, k6_pid: Callable[[], int | None] = lambda: None) -> AsyncIterator[Meter]:
    """Measures until the block ends.

    Args:
        k6_pid: k6's process, None while it does not run; it is a part by itself.

    Raises HouseError where the house does not answer at the beginning or at the end.
    """
    found = Meter(house, began=time.time())
    texts, count = await house.metrics(), await house.model_count()
    last = await asyncio.to_thread(newest, house.database)
    watch = _Watch(house, k6_pid)
    watch.look(first=True)
    watching = asyncio.create_task(watch.run())
    try:
        yield found
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        await asyncio.to_thread(watch.look)
        found.ended = time.time()
        found.parts = watch.uses(found.ended - found.began)
    await _told(found, texts, count)
    found.own_share = of_times(await asyncio.to_thread(own_shares, house.database, last))
    found.in_flight = await _in_flight(found)


async def _told(found: Meter, texts: Mapping[str, str], count: Mapping[str, Any]) -> None:
    """What the app and the stub say since then."""
    later, counted = await found.house.metrics(), await found.house.model_count()
    before, after = list(texts.values()), list(later.values())
    found.own_share_histogram = between(histogram(before, _OWN_SHARE), histogram(after, _OWN_SHARE))
    found.lag = between(histogram(before, _LAG), histogram(after, _LAG))
    found.model_calls = counted["calls"] - count["calls"]
    found.model_kinds = {kind: n - count["kinds"].get(kind, 0) for kind, n in counted["kinds"].items()}
    found.model_cpu_s = counted["cpu_s"] - count["cpu_s"]


async def _in_flight(found: Meter) -> float | None:
    """As Prometheus saw it; None where there is none, or it saw nothing yet."""
    if found.house.prometheus is None:
        return None
    query = {"query": _IN_FLIGHT.format(max(1, math.ceil(found.ended - found.began))), "time": f"{found.ended:.3f}"}
    url = f"{found.house.prometheus}/api/v1/query"
    async with aiohttp.ClientSession() as web, web.get(url, params=query) as answer:
        series = (await answer.json())["data"]["result"]
    return float(series[0]["value"][1]) if series else None


def of_times(times: Sequence[float]) -> Quantiles | None:
    """Exact, of seconds in any order (nearest rank); None of none, no p99 of fewer than 1,000."""
    if not times:
        return None
    ranked = sorted(times)

    def at(share: float) -> float:
        return ranked[math.ceil(share * len(ranked)) - 1]

    return Quantiles(
        count=len(ranked),
        mean_s=sum(ranked) / len(ranked),
        p50_s=at(0.5),
        p95_s=at(0.95),
        p99_s=at(0.99) if len(ranked) >= LEAST_FOR_P99 else None,
        worst_s=ranked[-1],
    )


class _Watch:
    """Reads processes again and again."""

    def __init__(self, house: House, k6_pid: Callable[[], int | None]) -> None:
        self._house, self._k6_pid = house, k6_pid
        self._uses: dict[str, Use] = {}
        self._machine = machine_cpu_s()

    async def run(self) -> None:
        for number in itertools.count(1):
            await asyncio.sleep(EVERY_S)
            await asyncio.to_thread(self.look, memory=number % MEMORY_EVERY == 0)

    def look(self, *, first: bool = False, memory: bool = True) -> None:
        known = children()
        parts = {part: families(roots, known) for part, roots in self._house.parts.items()}
        pid = self._k6_pid()
        if pid is not None:
            parts[K6] = families([pid], known)
        parts[GATE] = [os.getpid()]
        for part, pids in parts.items():
            self._uses.setdefault(part, Use()).read(pids, first=first, memory=memory)

    def uses(self, seconds: float) -> tuple[PartUse, ...]:
        """The busiest first, then what was no part of the house."""
        whole = seconds * (os.cpu_count() or 1)
        rows = [PartUse(part, use.cpu_s, use.cpu_s / whole, use.memory_mib) for part, use in self._uses.items()]
        rest = max(0.0, machine_cpu_s() - self._machine - sum(row.cpu_s for row in rows))
        return (*sorted(rows, key=lambda row: -row.cpu_s), PartUse(REST, rest, rest / whole, 0.0))
