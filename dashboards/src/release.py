"""A release: which version runs where, and whether the new one is worse than the old one."""

from typing import Final

from dashboards.src.house import Dashboard, Panel, Query, Row, board, series, stat, states, table
from dashboards.src.promql import share
from infra.phases import Phase
from infra.scrapes import asks

UID: Final = "trellis-release"
_OURS: Final = '{job=~"trellis-.*"}'
_SERVED: Final = '{route=~"/v1/.*"}'
_FAILED: Final = '{route=~"/v1/.*", status_class="5xx"}'
_REQUESTS: Final = "trellis_http_requests_total"


def used(phase: Phase) -> bool:
    return asks(phase, "trellis-api")


def _grown(metric: str, *by: str, where: str = "") -> str:
    """How much a counter grows a second in processes of each version: the build is on another series."""
    labels = ", ".join((*by, "version"))
    joined = "* on (job, instance) group_left (version) trellis_build_info"
    return f"sum by ({labels}) (rate({metric}{where}[$__rate_interval]) {joined})"


def _slowest(metric: str, part: float, where: str = "") -> str:
    return f"histogram_quantile({part}, {_grown(f'{metric}_bucket', 'le', where=where)})"


def build() -> Dashboard:
    return board(
        UID,
        "Trellis: release",
        "Old version against new: who runs what, failures, time, cost and use of the machine. Blue lines mark the "
        "moments at which a version started.",
        tags=["application", "release"],
        rows=[
            Row("What runs", [*_tiles(), *_running()]),
            Row("Is the new version worse?", _worse()),
            Row("What it takes", _takes()),
            Row("Switches", [_switches()]),
        ],
    )


def _tiles() -> list[Panel]:
    return [
        stat(
            "Versions",
            "How many versions run at once. Bad: 2 for longer than a rollout takes: it is stuck. Next: 'Processes'.",
            "none",
            Query("count(count by (version) (trellis_build_info))"),
            width=6,
            steps=((0.0, "green"), (2.0, "orange")),
        ),
        stat(
            "Processes up",
            "API processes and workers that Prometheus reaches. Bad: fewer than the phase's least. Next: "
            "trellis-kubernetes.",
            "none",
            Query(f"sum(up{_OURS})"),
            width=6,
        ),
        stat(
            "Youngest process",
            "How long ago the last process started. Bad: seconds, again and again: processes crash. Next: 'Starts'.",
            "s",
            Query(f"min(time() - process_start_time_seconds{_OURS})"),
            width=6,
        ),
        stat(
            "Kill switches on",
            "Packs that a person stopped. Bad: one that nobody remembers. Next: 'Kill switches', the audit log.",
            "none",
            Query("sum(max by (name) (trellis_kill_switch)) or vector(0)"),
            width=6,
            steps=((0.0, "green"), (1.0, "orange")),
        ),
    ]


def _running() -> list[Panel]:
    return [
        series(
            "Processes by version",
            "How a rollout goes: one colour takes over. Bad: it stops half way. Next: the events of the Deployment "
            "in trellis-kubernetes.",
            "none",
            Query("count by (version) (trellis_build_info)", "{{version}}"),
            stacked=True,
        ),
        series(
            "Starts",
            "Processes that started, in each step, by job. Bad: starts without a deployment: crashes, evictions. "
            "Next: trellis-kubernetes (restarts), the last log lines of the process.",
            "short",
            Query(f"sum by (job) (changes(process_start_time_seconds{_OURS}[$__rate_interval]))", "{{job}}"),
        ),
        table(
            "Processes",
            "Every process: its version and since when it runs. Bad: an old version that stays. Next: its pod.",
            Query(
                "time() - (process_start_time_seconds * on (job, instance) group_left (version) trellis_build_info)",
                "age",
            ),
            width=8,
            columns={"job": "string", "instance": "string", "version": "string", "age": "s"},
        ),
    ]


def _worse() -> list[Panel]:
    return [
        series(
            "Failed requests by version",
            "Share of requests to /v1 answered 5xx. Bad: the new version above the old one: roll back. Next: the "
            "procedure of a rollback among the runbooks.",
            "percentunit",
            Query(share(_grown(_REQUESTS, where=_FAILED), _grown(_REQUESTS, where=_SERVED)), "{{version}}"),
            target="trellis:target:failed_share",
        ),
        series(
            "Time to answer (p99) by version",
            "Bad: the new version above the old one, or above the line. Next: traces of both versions side by side "
            "(service.version).",
            "s",
            Query(_slowest("trellis_time_to_answer_seconds", 0.99), "{{version}}"),
            target="trellis:target:answer_p99_seconds",
        ),
        series(
            "Time of requests (p99) by version",
            "All routes of /v1. Bad: the new version above the old one. Next: trellis-api.",
            "s",
            Query(_slowest("trellis_http_request_duration_seconds", 0.99, _SERVED), "{{version}}"),
        ),
        series(
            "Requests by version",
            "Requests a second that each version answers: how much its other figures are worth. Bad: none after a "
            "rollout: nothing is sent to it. Next: its readiness in trellis-api.",
            "reqps",
            Query(_grown(_REQUESTS, where=_SERVED), "{{version}}"),
            stacked=True,
        ),
        series(
            "Failed model calls by version",
            "Calls a second that ended in an error or a timeout. Bad: only the new version: its requests are wrong. "
            "Next: trellis-model.",
            "reqps",
            Query(
                _grown("trellis_model_call_duration_seconds_count", where='{outcome=~"error|timeout"}'), "{{version}}"
            ),
        ),
        series(
            "Errors logged by version",
            "Lines of level error and critical a second. Bad: the new version above the old one. Next: the logs of "
            "trellis-api.",
            "cps",
            Query(_grown("trellis_log_events_total", where='{level=~"error|critical"}'), "{{version}}"),
        ),
    ]


def _takes() -> list[Panel]:
    return [
        series(
            "CPU by version",
            "Cores of a process, mean of its version. Bad: a step up at the same load. Next: trellis-api.",
            "short",
            Query(
                "avg by (version) (rate(process_cpu_seconds_total[$__rate_interval]) "
                "* on (job, instance) group_left (version) trellis_build_info)",
                "{{version}}",
            ),
        ),
        series(
            "Memory by version",
            "Resident memory of a process, mean of its version. Bad: a rise that the old version did not have. "
            "Next: trellis-api.",
            "bytes",
            Query(
                "avg by (version) (process_resident_memory_bytes "
                "* on (job, instance) group_left (version) trellis_build_info)",
                "{{version}}",
            ),
        ),
        series(
            "Cost by version",
            "US dollars an hour of model calls. Bad: the new version's share of cost above its share of requests. "
            "Next: trellis-model (tokens of a call).",
            "currencyUSD",
            Query(f"{_grown('trellis_model_cost_usd_total')} * 3600", "{{version}}"),
            stacked=True,
        ),
    ]


def _switches() -> Panel:
    return states(
        "Kill switches",
        "Which packs are stopped, over time; 'all' stops every pack. Bad: red without an incident. Next: the audit "
        "log says who threw it.",
        Query("max by (name) (trellis_kill_switch)", "{{name}}"),
        colours={0.0: ("runs", "green"), 1.0: ("stopped", "red")},
    )
