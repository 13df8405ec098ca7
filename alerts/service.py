"""The app's own parts: caches, pools, the event loop, its log, and the switch that stops it."""

from collections.abc import Iterator, Sequence
from functools import partial

from alerts.expressions import number, too_many, too_slow, total
from alerts.model import Alert, Group, Recording, Rule, Severity, Site, Team
from alerts.windows import DAY, HOUR, MINUTE
from infra.phases import Cache

_ticket = partial(Alert, severity=Severity.TICKET)
_LOOKUPS = "trellis_cache_requests_total"
_QUARTER = 15 * MINUTE


def service(site: Site) -> Sequence[Group]:
    stores = site.phase.stores
    away = [_redis_away()] if stores.cache is not Cache.IN_PROCESS else []
    behind = [_replicas_behind(site)] if stores.read_replicas else []
    return (
        Group("caches", list(_caches(site))),
        Group("process", [*_process(site), *away, *behind, _kill_switch(), _part_down()]),
    )


def _caches(site: Site) -> Iterator[Rule]:
    """A cache's own past is what its hits are held against: how often users repeat themselves is nobody's promise."""
    answered = 'result=~"hit|miss|shared"'
    looked = total(site, f"{_LOOKUPS}{{{answered}}}", 6 * HOUR, "cache")
    hits = total(site, f'{_LOOKUPS}{{result=~"hit|shared"}}', 6 * HOUR, "cache")
    ratio = "trellis:cache_hits:ratio_rate6h"
    usual = f"avg_over_time({ratio}[{site.pace(7 * DAY)}] offset {site.pace(6 * HOUR)})"
    yield Recording("trellis:cache_lookups:increase6h", looked)
    yield Recording(ratio, f"({hits} or 0 * trellis:cache_lookups:increase6h) / (trellis:cache_lookups:increase6h > 0)")
    yield _ticket(
        name="CacheHitsFell",
        expr=f"{ratio} < 0.5 * ({usual} > 0.1) and trellis:cache_lookups:increase6h > 99.5",
        hold_s=900,
        team=Team.API,
        summary="The cache {{ $labels.cache }} answers only {{ $value | humanizePercentage }} of look-ups",
        description=(
            "Less than half of its share in the week before: answers become slower and dearer. See whether it was "
            "emptied, a prompt or index version changed its keys, or its store is away."
        ),
        dashboard="trellis-model",
    )


def _process(site: Site) -> Iterator[Alert]:
    yield _ticket(
        name="DatabasePoolExhausted",
        expr=too_slow(site, "trellis_database_connection_wait_seconds", 0.1, 10 * MINUTE, line=0.05, least=10),
        hold_s=120,
        team=Team.DATA,
        summary="{{ $value | humanizePercentage }} of tasks wait more than 100 ms for a database connection",
        description=(
            "The pools of the processes are used up. See whether statements became slow, a transaction is held open, "
            "or there is simply more to do than connections."
        ),
        dashboard="trellis-api",
    )
    yield _ticket(
        name="EventLoopLag",
        expr=too_slow(
            site, "trellis_event_loop_lag_seconds", 0.1, 10 * MINUTE, line=0.01, least=5, by=["job", "instance"]
        ),
        hold_s=300,
        team=Team.API,
        summary="The event loop of {{ $labels.instance }} stands still for more than 100 ms at a time",
        description=(
            "Every request of that process waits with it ({{ $value | humanizePercentage }} of its looks came late). "
            "Something computes or blocks on the loop, or the process has too little CPU."
        ),
        dashboard="trellis-api",
    )
    yield _errors_rising(site)


def _errors_rising(site: Site) -> Alert:
    lines = 'trellis_log_events_total{level=~"error|critical"}'
    now = total(site, lines, _QUARTER)
    day = f"sum(increase({lines}[{site.pace(DAY)}] offset {site.pace(_QUARTER)}))"
    return _ticket(
        name="ErrorLogsRising",
        expr=f"{now} > 9.5 and {now} > 3 * ({day} / {number(DAY / _QUARTER)} or vector(0))",
        hold_s=0,
        team=Team.API,
        summary='{{ $value | printf "%.0f" }} errors were logged in 15 minutes',
        description=(
            "More than three times the pace of the day before. The log says what and where; its lines carry the trace "
            "of the request."
        ),
        dashboard="trellis-api",
    )


def _redis_away() -> Alert:
    return _ticket(
        name="RedisAway",
        expr="max(trellis_redis_away) > 0",
        hold_s=120,
        team=Team.DATA,
        summary="{{ $value }} nodes of Redis do not answer the app",
        description=(
            "The app goes on without them: caches miss, limits count in each process alone, and conversations may miss "
            "their last turns. See Redis and the way to it."
        ),
        dashboard="trellis-stores",
    )


def _replicas_behind(site: Site) -> Alert:
    away = 'where=~"writer_replica_behind|writer_replica_away"'
    return _ticket(
        name="ReplicasBehind",
        expr=too_many(site, "trellis_database_reads_total", away, _QUARTER, line=0.2, least=10),
        hold_s=300,
        team=Team.DATA,
        summary="{{ $value | humanizePercentage }} of reads go to the writer because replicas are behind or away",
        description=(
            "Users read their own writes all the same, but the writer does the replicas' work. See the replicas' lag "
            "and whether they answer."
        ),
        dashboard="trellis-postgres",
    )


def _kill_switch() -> Alert:
    return _ticket(
        name="KillSwitchOn",
        expr="max by (name) (trellis_kill_switch) == 1",
        hold_s=0,
        team=Team.BUSINESS,
        summary="The kill switch {{ $labels.name }} is on",
        description=(
            "Its runs are refused on purpose. This ticket stays open so that the switch is not forgotten: see the "
            "audit log for who set it and why."
        ),
        dashboard="trellis-agent",
    )


def _part_down() -> Alert:
    return _ticket(
        name="PartDown",
        expr="min by (part) (trellis_part_up) == 0",
        hold_s=300,
        team=Team.PLATFORM,
        summary="The part {{ $labels.part }} of a process is not well",
        description=(
            "At least one process cannot use it. See which ones: one is that process's trouble, all of them the part's "
            "own."
        ),
        dashboard="trellis-api",
    )
