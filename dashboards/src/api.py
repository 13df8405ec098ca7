"""The HTTP API and the processes that serve it: rate, errors, duration, and what holds them up."""

from typing import Final

from dashboards.src.house import (
    Dashboard,
    Panel,
    Query,
    Row,
    board,
    label_variable,
    logs,
    series,
    stat,
    states,
)
from dashboards.src.promql import quantile, rate, share
from infra.phases import Phase
from infra.scrapes import asks

UID: Final = "trellis-api"
_ROUTES: Final = '{route=~"$route"}'
_FAILED: Final = '{route=~"$route", status_class="5xx"}'
_REFUSED: Final = '{route=~"$route", status_class="4xx"}'
_OURS: Final = '{job=~"trellis-.*"}'
_REQUESTS: Final = "trellis_http_requests_total"
_DURATION: Final = "trellis_http_request_duration_seconds"


def used(phase: Phase) -> bool:
    return asks(phase, "trellis-api")


def build() -> Dashboard:
    return board(
        UID,
        "Trellis: API",
        "Rate, errors and duration of each route, and whether the processes, their database pool and their parts "
        "hold them up.",
        tags=["application"],
        variables=[label_variable("route", "route", _REQUESTS)],
        rows=[
            Row("Now", _now()),
            Row("Routes", _routes()),
            Row("Answers", _answers()),
            Row("Processes", _processes()),
            Row("Database pool", _pool()),
            Row("Parts and logs", _parts()),
        ],
    )


def _now() -> list[Panel]:
    return [
        stat(
            "Requests",
            "Requests a second to the chosen routes. Bad: a sudden fall. Next: the load balancer, 'Parts' below.",
            "reqps",
            Query(rate(_REQUESTS, where=_ROUTES)),
        ),
        stat(
            "Failed",
            "Share of requests answered 5xx. Bad: above the target of trellis-slo. Next: 'Failed share by route'.",
            "percentunit",
            Query(share(f"({rate(_REQUESTS, where=_FAILED)} or vector(0))", rate(_REQUESTS, where=_ROUTES))),
            steps=((0.0, "green"), (0.001, "orange"), (0.01, "red")),
            decimals=2,
        ),
        stat(
            "p99",
            "Time that 1 in 100 requests exceeds; a model's time is in it. Bad: above what trellis-slo promises. "
            "Next: 'p99 by route' and its exemplars.",
            "s",
            Query(quantile(0.99, _DURATION, where=_ROUTES)),
        ),
        stat(
            "In flight",
            "Requests being answered now, of all processes. Bad: growing while the rate does not. Next: 'Event loop "
            "lag', 'Waits for a connection'.",
            "none",
            Query("sum(trellis_http_in_flight)"),
        ),
        stat(
            "Event loop lag (p99)",
            "How late a task woke in any process. Bad: above 50 ms something blocks the loop, and every request of "
            "that process waits. Next: 'Event loop lag' says which process.",
            "s",
            Query(quantile(0.99, "trellis_event_loop_lag_seconds")),
            steps=((0.0, "green"), (0.05, "orange"), (0.2, "red")),
        ),
        stat(
            "Parts away",
            "Parts of a process that were not well when its readiness was last looked at. Bad: any. Next: 'Parts'.",
            "none",
            Query("count(trellis_part_up == 0) or vector(0)"),
            steps=((0.0, "green"), (1.0, "red")),
        ),
    ]


def _routes() -> list[Panel]:
    return [
        series(
            "Requests by route",
            "Requests a second of each route template. Bad: a route that falls to nothing, or one client's flood. "
            "Next: 'Refused by a rate limit'.",
            "reqps",
            Query(rate(_REQUESTS, "route", where=_ROUTES), "{{route}}"),
            stacked=True,
        ),
        series(
            "Failed share by route",
            "Share of each route's requests that ended in 5xx. Bad: anything above 0 that stays. Next: the logs below "
            "for the error, then its trace.",
            "percentunit",
            Query(share(rate(_REQUESTS, "route", where=_FAILED), rate(_REQUESTS, "route", where=_ROUTES)), "{{route}}"),
            maximum=1,
        ),
        series(
            "p99 by route",
            "Time that 1 in 100 requests of a route exceeds. Dots are traces: click one for the slow step. Bad: a "
            "route that leaves its level. Next: the trace; trellis-model where the model is slow.",
            "s",
            Query(quantile(0.99, _DURATION, "route", where=_ROUTES), "{{route}}"),
            exemplars=True,
        ),
    ]


def _answers() -> list[Panel]:
    return [
        series(
            "Classes of status",
            "Requests a second by class of status. Bad: 5xx is ours. A step in 4xx: a client broke, or a credential "
            "ended (401, 403). Next: 'Refused (4xx) by route'.",
            "reqps",
            Query(rate(_REQUESTS, "status_class", where=_ROUTES), "{{status_class}}"),
            stacked=True,
            judged=True,
        ),
        series(
            "Refused (4xx) by route",
            "Requests a second that were the client's fault: no or wrong credential (401), not allowed (403), unknown "
            "(404), wrong (422), too many (429). Bad: a step. Next: the logs below say which.",
            "reqps",
            Query(rate(_REQUESTS, "route", where=_REFUSED), "{{route}}"),
        ),
        series(
            "Refused by a rate limit",
            "Requests a second refused with 429, by the key's tier. Bad: 'standard' or 'pro' customers refused for "
            "long. Next: raise the tenant's tier, or talk to the client.",
            "reqps",
            Query(rate("trellis_rate_limited_total", "tier"), "{{tier}}"),
            stacked=True,
        ),
    ]


def _processes() -> list[Panel]:
    return [
        series(
            "CPU",
            "Cores that each process uses; one process can use one core of Python. Bad: near 1. Next: more replicas "
            "(trellis-kubernetes), or the route that grew.",
            "short",
            Query(f"rate(process_cpu_seconds_total{_OURS}[$__rate_interval])", "{{job}} {{instance}}"),
        ),
        series(
            "Memory",
            "Resident memory of each process. Bad: a rise that never falls, or near the pod's limit. Next: "
            "trellis-kubernetes for restarts, trellis-machine for what is left.",
            "bytes",
            Query(f"process_resident_memory_bytes{_OURS}", "{{job}} {{instance}}"),
        ),
        series(
            "Event loop lag",
            "How late tasks woke, p99 for each process. Bad: above 50 ms. Next: CPU of the same process; a trace "
            "with a gap between spans shows what blocked.",
            "s",
            Query(quantile(0.99, "trellis_event_loop_lag_seconds", "job", "instance"), "{{job}} {{instance}}"),
        ),
    ]


def _pool() -> list[Panel]:
    return [
        series(
            "Connections of the pools",
            "Connections that the processes hold, by pool and use. Bad: 'idle' at 0 for long, the pool is exhausted. "
            "Next: 'Waits for a connection', then trellis-postgres for slow queries.",
            "none",
            Query("sum by (pool, state) (trellis_database_connections)", "{{pool}} {{state}}"),
            width=12,
            stacked=True,
        ),
        series(
            "Waits for a connection",
            "Time that a task waited for a connection of its pool. Bad: p99 above 10 ms. Next: trellis-postgres: is "
            "the server slow, or are there too few connections?",
            "s",
            Query(quantile(0.5, "trellis_database_connection_wait_seconds"), "p50"),
            Query(quantile(0.99, "trellis_database_connection_wait_seconds"), "p99"),
            width=12,
        ),
    ]


def _parts() -> list[Panel]:
    return [
        states(
            "Parts",
            "Whether each part of a process was well when its readiness was last looked at. Bad: red; 'database', "
            "'schema' and 'jobs' take the process out of service. Next: the board of that part.",
            Query("min by (part) (trellis_part_up)", "{{part}}"),
            colours={1.0: ("well", "green"), 0.0: ("away", "red")},
        ),
        series(
            "Warnings and errors logged",
            "Lines a second by level. Bad: a step in errors, any critical. Next: the lines beside it.",
            "cps",
            Query(rate("trellis_log_events_total", "level", where='{level=~"warning|error|critical"}'), "{{level}}"),
            stacked=True,
            judged=True,
        ),
        logs(
            "Errors",
            "Lines of level error and critical, newest first; trace_id leads to the trace. Bad: one line again and "
            "again. Next: its trace.",
            '{service_name=~"trellis.*"} | json | level=~"error|critical"',
            width=16,
        ),
    ]
