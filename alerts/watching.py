"""What watches all the rest: Prometheus, Alertmanager, the collector, Loki, Tempo."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from alerts.expressions import total
from alerts.model import Alert, Group, Severity, Site, Team
from infra.scrapes import asks

_ticket: Final = partial(Alert, severity=Severity.TICKET, team=Team.PLATFORM, dashboard="trellis-telemetry")
_page: Final = partial(Alert, severity=Severity.PAGE, team=Team.PLATFORM, dashboard="trellis-telemetry")


def watching(site: Site) -> Sequence[Group]:
    groups = [
        Group("prometheus", [*_targets(), *_rules(site), *_storage(site)]),
        Group("alertmanager", list(_alertmanager(site))),
    ]
    if asks(site.phase, "otel-collector"):
        groups.append(Group("collector", list(_collector(site))))
    if asks(site.phase, "loki"):
        groups.append(Group("logs-and-traces", [*_loki(site), *_tempo(site)]))
    return groups


def _targets() -> Iterator[Alert]:
    yield _ticket(
        name="TargetDown",
        expr="up == 0",
        hold_s=300,
        summary="{{ $labels.instance }} of {{ $labels.job }} does not answer Prometheus",
        description="Either it is down or its scrape is. While it lasts, no alert sees what happens there.",
    )
    yield _ticket(
        name="PrometheusReloadFailed",
        expr="prometheus_config_last_reload_successful == 0",
        hold_s=300,
        summary="{{ $labels.instance }} could not load its configuration",
        description="It goes on with the old one: new rules and targets are not there. Its log names the line.",
    )


def _rules(site: Site) -> Iterator[Alert]:
    window = site.pace(300)
    yield _ticket(
        name="RuleFailures",
        expr=f"sum by (instance, rule_group) (increase(prometheus_rule_evaluation_failures_total[{window}])) > 0",
        hold_s=600,
        summary="Rules of {{ $labels.rule_group }} fail on {{ $labels.instance }}",
        description="Their alerts cannot fire. The page /rules of Prometheus shows the error of each.",
    )
    yield _ticket(
        name="RulesSlow",
        expr="prometheus_rule_group_last_duration_seconds > prometheus_rule_group_interval_seconds",
        hold_s=900,
        summary="{{ $labels.rule_group }} takes {{ $value | humanizeDuration }}, longer than its interval",
        description="Evaluations are left out, alerts come late. Record what several of its rules compute.",
    )
    errors = f"rate(prometheus_notifications_errors_total[{window}])"
    sent = f"rate(prometheus_notifications_sent_total[{window}])"
    yield _ticket(
        name="PrometheusNotificationsFailing",
        expr=f"{errors} / {sent} > 0.05",
        hold_s=600,
        summary="{{ $value | humanizePercentage }} of what {{ $labels.instance }} sends to an Alertmanager is lost",
        description="Alerts may not arrive; with no Alertmanager left, only the dead man's switch tells.",
    )


def _storage(site: Site) -> Iterator[Alert]:
    hours = site.pace(3 * 3600)
    broken = ("compactions_failed", "wal_corruptions", "reloads_failures", "head_truncations_failed")
    yield _ticket(
        name="PrometheusStorageFailing",
        expr=" or ".join(f"increase(prometheus_tsdb_{what}_total[{hours}]) > 0" for what in broken),
        hold_s=0,
        summary="{{ $labels.instance }} cannot keep its data in order",
        description="Its disk is full or faulty. History may be lost, and with it the budgets of 30 days.",
    )
    held = "prometheus_target_scrapes_exceeded_sample_limit_total"
    yield _ticket(
        name="TooManySeries",
        expr=f"increase({held}[{site.pace(900)}]) > 0",
        hold_s=0,
        summary="{{ $labels.instance }} threw a whole scrape away: too many series",
        description="A label has too many values. Find it: topk(10, count by (__name__, job) ({__name__=~'.+'})).",
    )


def _alertmanager(site: Site) -> Iterator[Alert]:
    window = site.pace(600)
    failed = f"sum by (integration) (increase(alertmanager_notifications_failed_total[{window}]))"
    tried = f"sum by (integration) (increase(alertmanager_notifications_total[{window}]))"
    yield _page(
        name="AlertmanagerNotificationsFailing",
        expr=f"{failed} / {tried} > 0.05",
        hold_s=300,
        summary="{{ $value | humanizePercentage }} of what goes to {{ $labels.integration }} does not arrive",
        description="People are not told of what happens. Alertmanager's log says why: key, address or network.",
    )
    yield _ticket(
        name="AlertmanagerReloadFailed",
        expr="alertmanager_config_last_reload_successful == 0",
        hold_s=300,
        summary="{{ $labels.instance }} could not load its configuration",
        description="It routes by the old one. Its log names the line; `amtool check-config` finds it too.",
    )
    yield _ticket(
        name="AlertmanagerClusterSplit",
        expr='min(alertmanager_cluster_members) < count(up{job="alertmanager"})',
        hold_s=900,
        summary="An Alertmanager sees {{ $value }} members of its cluster",
        description="There are more. Each part sends by itself: alerts come twice. Is port 9094 open between them?",
    )


def _collector(site: Site) -> Iterator[Alert]:
    window = site.pace(300)
    kinds = ("spans", "log_records", "metric_points")
    refused = " or ".join(f"rate(otelcol_receiver_refused_{kind}[{window}]) > 0" for kind in kinds)
    yield _ticket(
        name="CollectorRefuses",
        expr=refused,
        hold_s=300,
        summary="{{ $labels.instance }} refuses what it is sent over {{ $labels.transport }}",
        description="Its memory is at the limit: traces and logs are lost. Give it more, or find what floods it.",
    )
    yield _ticket(
        name="CollectorQueueFull",
        expr="max by (instance, exporter) (otelcol_exporter_queue_size / otelcol_exporter_queue_capacity) > 0.8",
        hold_s=300,
        summary="The queue of {{ $labels.exporter }} on {{ $labels.instance }} is at {{ $value | humanizePercentage }}",
        description="What it sends to is slow or away. A full queue throws away what comes in.",
    )
    failed = " or ".join(
        total(site, f"otelcol_exporter_send_failed_{kind}", 300, "instance", "exporter") for kind in kinds
    )
    yield _ticket(
        name="CollectorExportFailing",
        expr=f"({failed}) > 0",
        hold_s=600,
        summary="{{ $labels.exporter }} on {{ $labels.instance }} fails to send",
        description="Traces, logs or pushed metrics are lost. Look whether Tempo, Loki or Prometheus take them.",
    )


def _loki(site: Site) -> Iterator[Alert]:
    writes = 'loki_request_duration_seconds_count{route=~"loki_api_v1_push|otlp_v1_logs"}'
    failed = 'loki_request_duration_seconds_count{route=~"loki_api_v1_push|otlp_v1_logs", status_code=~"5.."}'
    yield _ticket(
        name="LokiWritesFailing",
        expr=f"{total(site, failed, 300)} / {total(site, writes, 300)} > 0.05",
        hold_s=600,
        summary="Loki fails {{ $value | humanizePercentage }} of what is written to it",
        description="Logs are late, then lost. Look at its disk and at its access to the bucket.",
    )
    yield _ticket(
        name="LokiDiscards",
        expr=f"{total(site, 'loki_discarded_samples_total', 900, 'reason')} > 100",
        hold_s=0,
        summary="Loki threw away {{ $value | humanize }} log lines in a quarter of an hour: {{ $labels.reason }}",
        description="They are lost. A limit is too low, or one process logs far too much.",
    )


def _tempo(site: Site) -> Iterator[Alert]:
    yield _ticket(
        name="TempoDiscards",
        expr=f"{total(site, 'tempo_discarded_spans_total', 900, 'reason')} > 100",
        hold_s=0,
        summary="Tempo threw away {{ $value | humanize }} spans in a quarter of an hour: {{ $labels.reason }}",
        description="Traces have holes. A limit is too low, or one trace is far too long.",
    )
    refused = f"rate(tempo_receiver_refused_spans[{site.pace(300)}])"
    yield _ticket(
        name="TempoRefuses",
        expr=f"sum by (instance) ({refused}) > 0",
        hold_s=600,
        summary="{{ $labels.instance }} of Tempo refuses {{ $value | humanize }} spans a second",
        description="Traces of now are lost. Look at its storage, and whether all of its parts run.",
    )
