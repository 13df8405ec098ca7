"""The telemetry's own health: what measures the rest, and whether it can be believed.

Names are those of Prometheus 2.42 and later, Alertmanager, the OpenTelemetry collector, Loki 3 and Tempo.
"""

from typing import Final

from dashboards.src.house import Dashboard, Panel, Query, Row, board, label_variable, series, stat, states, table
from dashboards.src.promql import rate
from infra.phases import Phase
from infra.scrapes import asks

UID: Final = "trellis-telemetry"
_JOB: Final = '{job=~"$job"}'


def used(phase: Phase) -> bool:
    """Wherever something measures, it can break."""
    return asks(phase, "prometheus")


def build() -> Dashboard:
    return board(
        UID,
        "Trellis: telemetry",
        "Whether the other boards can be believed: targets, rules, notifications, collector, logs and traces.",
        tags=["platform", "telemetry"],
        variables=[label_variable("job", "job", "up")],
        rows=[
            Row("Is it healthy", [*_measured(), *_told()]),
            Row("What is asked", [*_targets(), *_storage()]),
            Row("Rules and alerts", _rules()),
            Row("Traces and logs", _app()),
            Row("Collector", _collector()),
        ],
    )


def _measured() -> list[Panel]:
    return [
        stat(
            "Targets up",
            "Share of targets that answer Prometheus. What is down is not measured: see Targets that are down.",
            "percentunit",
            Query(f"avg(up{_JOB})"),
            steps=[(0, "red"), (0.95, "yellow"), (1, "green")],
            width=5,
        ),
        stat(
            "Rule failures a minute",
            "Rules that could not be evaluated. Alerts that depend on them do not fire: see Prometheus's log.",
            "short",
            Query(f"60 * {rate('prometheus_rule_evaluation_failures_total')}"),
            steps=[(0, "green"), (0.01, "red")],
            decimals=1,
            width=5,
        ),
        stat(
            "Settings loaded",
            "1 where Prometheus and Alertmanager run with their newest files. 0: the file is wrong, and what was "
            "changed does not hold. Check it with promtool or amtool.",
            "short",
            Query("min(prometheus_config_last_reload_successful) * min(alertmanager_config_last_reload_successful)"),
            steps=[(0, "red"), (1, "green")],
            width=5,
        ),
    ]


def _told() -> list[Panel]:
    return [
        stat(
            "Notifications lost a minute",
            "Alerts that Prometheus could not hand to Alertmanager, and messages that Alertmanager could not send. "
            "People are not told: see Notifications.",
            "short",
            Query(
                f"60 * ({rate('prometheus_notifications_dropped_total')} "
                f"+ {rate('alertmanager_notifications_failed_total')})"
            ),
            steps=[(0, "green"), (0.01, "red")],
            decimals=1,
            width=5,
        ),
        stat(
            "Watchdog",
            "1 while the alert that always fires does. 0 or no data: no alert reaches anybody.",
            "short",
            Query('max(ALERTS{alertname="Watchdog", alertstate="firing"})'),
            steps=[(0, "red"), (1, "green")],
        ),
    ]


def _targets() -> list[Panel]:
    return [
        states(
            "Targets that are down",
            "Jobs over time: red where some target of the job did not answer. See the target's pod, and Prometheus's "
            "page of targets for the reason.",
            Query(f"min by (job) (up{_JOB})", "{{job}}"),
            width=12,
            height=8,
            colours={0: ("down", "red"), 1: ("up", "green")},
        ),
        series(
            "Time of a scrape",
            "The slowest target of each job. At the scrape timeout (10 s) the target counts as down.",
            "s",
            Query(f"max by (job) (scrape_duration_seconds{_JOB})", "{{job}}"),
            width=12,
        ),
    ]


def _storage() -> list[Panel]:
    return [
        series(
            "Series in memory",
            "Series that Prometheus holds in its head. It takes about 4 KB of memory for each. A jump is a new label "
            "value a request, or a deployment.",
            "short",
            Query("max by (instance) (prometheus_tsdb_head_series)", "{{instance}}"),
        ),
        series(
            "Samples a second",
            "Samples taken in, and those refused because they were late, or twice the same.",
            "ops",
            Query(rate("prometheus_tsdb_head_samples_appended_total"), "taken in"),
            Query(rate("prometheus_target_scrapes_sample_out_of_order_total"), "late"),
            Query(rate("prometheus_target_scrapes_sample_duplicate_timestamp_total"), "twice"),
        ),
        series(
            "Storage and memory",
            "Bytes of blocks on the disk, and memory of the process. Blocks grow until the retention "
            "time is reached, then stay level.",
            "bytes",
            Query("max by (instance) (prometheus_tsdb_storage_blocks_bytes)", "{{instance}} blocks"),
            Query('max by (instance) (process_resident_memory_bytes{job="prometheus"})', "{{instance}} memory"),
        ),
    ]


def _rules() -> list[Panel]:
    return [
        series(
            "Time of rule groups",
            "How long the slowest groups took last. Above the interval (15 s), evaluations are missed: Prometheus is "
            "short of CPU.",
            "s",
            Query("topk(10, max by (rule_group) (prometheus_rule_group_last_duration_seconds))", "{{rule_group}}"),
            width=6,
        ),
        series(
            "Notifications",
            "Messages a minute by where they go, and those that failed. See Alertmanager's log for what the other "
            "side answered.",
            "short",
            Query(f"60 * {rate('alertmanager_notifications_total', 'integration')} > 0", "{{integration}}"),
            Query(
                f"60 * {rate('alertmanager_notifications_failed_total', 'integration')} > 0", "{{integration}} failed"
            ),
            Query(f"60 * {rate('prometheus_notifications_sent_total')}", "from Prometheus"),
            width=6,
        ),
        table(
            "Alerts now",
            "What is pending or fires. Each has a runbook of its own name.",
            Query("count by (alertname, severity, alertstate) (ALERTS)", "alerts"),
            columns={"alertname": "string", "severity": "string", "alertstate": "string", "alerts": "short"},
        ),
    ]


def _app() -> list[Panel]:
    return [
        series(
            "Spans of the app",
            "Spans a second that left the processes, were dropped because the queue was full, or could not be sent.",
            "ops",
            Query(rate("trellis_spans_total", "result"), "{{result}}"),
            width=6,
        ),
        series(
            "Lines logged",
            "Lines a second by level. Errors that rise: read them in Explore. Info that jumps: somebody left debug on.",
            "ops",
            Query(rate("trellis_log_events_total", "level"), "{{level}}"),
            stacked=True,
            width=6,
        ),
        series(
            "Exemplars kept",
            "Series of which Prometheus holds an exemplar, and exemplars a second. 0: no trace is sampled, or "
            "Prometheus runs without --enable-feature=exemplar-storage.",
            "short",
            Query("max(prometheus_tsdb_exemplar_series_with_exemplars_in_storage)", "series"),
            Query(rate("prometheus_tsdb_exemplar_exemplars_appended_total"), "a second"),
            width=6,
        ),
        series(
            "What Loki and Tempo take",
            "Lines and spans a second that arrived, and what was thrown away, by reason. 0 while the app logs: the "
            "collector does not reach them. rate_limited: raise the limit, or find who sends so much.",
            "ops",
            Query(rate("loki_distributor_lines_received_total"), "lines"),
            Query(rate("tempo_distributor_spans_received_total"), "spans"),
            Query(rate("loki_discarded_samples_total", "reason"), "lines {{reason}}"),
            Query(rate("tempo_discarded_spans_total", "reason"), "spans {{reason}}"),
            width=6,
        ),
    ]


def _collector() -> list[Panel]:
    return [
        series(
            "Through the collector",
            "Spans a second that were taken in, sent and lost on the way out; and of all signals what was refused, "
            "because memory is short. Sent is below taken in by what tail sampling leaves out.",
            "ops",
            Query(rate("otelcol_receiver_accepted_spans"), "spans taken in"),
            Query(rate("otelcol_exporter_sent_spans", "exporter"), "sent to {{exporter}}"),
            Query(rate("otelcol_exporter_send_failed_spans", "exporter"), "lost before {{exporter}}"),
            Query(rate("otelcol_receiver_refused_spans"), "spans refused"),
            Query(rate("otelcol_receiver_refused_log_records"), "lines refused"),
            Query(rate("otelcol_receiver_refused_metric_points"), "points refused"),
        ),
        series(
            "Queues of the collector",
            "How full the queue before each destination is. At 100 % it refuses: the destination is slow or away.",
            "percentunit",
            Query(
                "max by (instance, exporter) (otelcol_exporter_queue_size / otelcol_exporter_queue_capacity)",
                "{{instance}} {{exporter}}",
            ),
            maximum=1,
        ),
        series(
            "Decisions of tail sampling",
            "Traces a second that were kept and left out. Kept ones that jump: more errors or more slow requests.",
            "ops",
            Query(rate("otelcol_processor_tail_sampling_global_count_traces_sampled", "decision"), "{{decision}}"),
            Query(rate("otelcol_processor_tail_sampling_sampling_trace_dropped_too_early"), "dropped too early"),
        ),
    ]
