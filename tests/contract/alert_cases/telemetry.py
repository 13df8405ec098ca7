"""Prometheus, Alertmanager, the collector, Loki, Tempo."""

from tests.support.alert_quartets import quartet

CASES = (
    *quartet(
        "TargetDown",
        {"severity": "ticket", "team": "platform", "job": "trellis-api", "instance": "api-a:8321"},
        summary="api-a:8321 of trellis-api does not answer Prometheus",
        description=("Either it is down or its scrape is. While it lasts, no alert sees what happens there."),
        dashboard="trellis-telemetry",
        at="15m",
        fires={
            'up{job="trellis-api",instance="api-a:8321"}': "1x5 0x20",
            'up{job="trellis-api",instance="api-b:8321"}': "1x20",
        },
        under={'up{job="trellis-api",instance="api-a:8321"}': "1x12 0x20"},
        total={'up{job="trellis-api",instance="api-a:8321"}': "0x20"},
    ),
    *quartet(
        "PrometheusReloadFailed",
        {"severity": "ticket", "team": "platform", "instance": "prom-a:9090"},
        summary="prom-a:9090 could not load its configuration",
        description=("It goes on with the old one: new rules and targets are not there. Its log names the line."),
        dashboard="trellis-telemetry",
        at="15m",
        fires={'prometheus_config_last_reload_successful{instance="prom-a:9090"}': "1x5 0x20"},
        under={'prometheus_config_last_reload_successful{instance="prom-a:9090"}': "1x12 0x20"},
        total={'prometheus_config_last_reload_successful{instance="prom-a:9090"}': "0x20"},
    ),
    *quartet(
        "RuleFailures",
        {"severity": "ticket", "team": "platform", "instance": "prom-a:9090", "rule_group": "slo"},
        summary="Rules of slo fail on prom-a:9090",
        description="Their alerts cannot fire. The page /rules of Prometheus shows the error of each.",
        dashboard="trellis-telemetry",
        at="40m",
        fires={'prometheus_rule_evaluation_failures_total{instance="prom-a:9090",rule_group="slo"}': "0x10 0+1x50"},
        under={'prometheus_rule_evaluation_failures_total{instance="prom-a:9090",rule_group="slo"}': "0x10 0+1x5 5x50"},
        total={'prometheus_rule_evaluation_failures_total{instance="prom-a:9090",rule_group="slo"}': "0+100x60"},
    ),
    *quartet(
        "RulesSlow",
        {"severity": "ticket", "team": "platform", "instance": "prom-a:9090", "rule_group": "slo"},
        summary="slo takes 20s, longer than its interval",
        description=("Evaluations are left out, alerts come late. Record what several of its rules compute."),
        dashboard="trellis-telemetry",
        at="30m",
        fires={
            'prometheus_rule_group_last_duration_seconds{instance="prom-a:9090",rule_group="slo"}': "20x40",
            'prometheus_rule_group_interval_seconds{instance="prom-a:9090",rule_group="slo"}': "15x40",
        },
        under={
            'prometheus_rule_group_last_duration_seconds{instance="prom-a:9090",rule_group="slo"}': "14x40",
            'prometheus_rule_group_interval_seconds{instance="prom-a:9090",rule_group="slo"}': "15x40",
        },
        total={
            'prometheus_rule_group_last_duration_seconds{instance="prom-a:9090",rule_group="slo"}': "120x40",
            'prometheus_rule_group_interval_seconds{instance="prom-a:9090",rule_group="slo"}': "15x40",
        },
        total_summary="slo takes 2m 0s, longer than its interval",
    ),
    *quartet(
        "PrometheusNotificationsFailing",
        {"severity": "ticket", "team": "platform", "instance": "prom-a:9090", "alertmanager": "a"},
        summary="10% of what prom-a:9090 sends to an Alertmanager is lost",
        description="Alerts may not arrive; with no Alertmanager left, only the dead man's switch tells.",
        dashboard="trellis-telemetry",
        at="40m",
        fires={
            'prometheus_notifications_errors_total{instance="prom-a:9090",alertmanager="a"}': "0+6x60",
            'prometheus_notifications_sent_total{instance="prom-a:9090",alertmanager="a"}': "0+60x60",
        },
        under={
            'prometheus_notifications_errors_total{instance="prom-a:9090",alertmanager="a"}': "0+1x60",
            'prometheus_notifications_sent_total{instance="prom-a:9090",alertmanager="a"}': "0+60x60",
        },
        total={
            'prometheus_notifications_errors_total{instance="prom-a:9090",alertmanager="a"}': "0+60x60",
            'prometheus_notifications_sent_total{instance="prom-a:9090",alertmanager="a"}': "0+60x60",
        },
        total_summary="100% of what prom-a:9090 sends to an Alertmanager is lost",
    ),
    *quartet(
        "PrometheusStorageFailing",
        {"severity": "ticket", "team": "platform", "instance": "prom-a:9090"},
        summary="prom-a:9090 cannot keep its data in order",
        description="Its disk is full or faulty. History may be lost, and with it the budgets of 30 days.",
        dashboard="trellis-telemetry",
        at="4h",
        fires={'prometheus_tsdb_compactions_failed_total{instance="prom-a:9090"}': "0x200 1x60"},
        under={
            'prometheus_tsdb_compactions_failed_total{instance="prom-a:9090"}': "3x300",
            'prometheus_tsdb_wal_corruptions_total{instance="prom-a:9090"}': "0x300",
        },
        total={
            'prometheus_tsdb_compactions_failed_total{instance="prom-a:9090"}': "0+1x300",
            'prometheus_tsdb_wal_corruptions_total{instance="prom-a:9090"}': "0+1x300",
        },
    ),
    *quartet(
        "TooManySeries",
        {"severity": "ticket", "team": "platform", "instance": "prom-a:9090"},
        summary="prom-a:9090 threw a whole scrape away: too many series",
        description=("A label has too many values. Find it: topk(10, count by (__name__, job) ({__name__=~'.+'}))."),
        dashboard="trellis-telemetry",
        at="40m",
        fires={'prometheus_target_scrapes_exceeded_sample_limit_total{instance="prom-a:9090"}': "0x30 1x30"},
        under={'prometheus_target_scrapes_exceeded_sample_limit_total{instance="prom-a:9090"}': "4x60"},
        total={'prometheus_target_scrapes_exceeded_sample_limit_total{instance="prom-a:9090"}': "0+4x60"},
    ),
    *quartet(
        "AlertmanagerNotificationsFailing",
        {"severity": "page", "team": "platform", "integration": "pagerduty"},
        summary="10% of what goes to pagerduty does not arrive",
        description=("People are not told of what happens. Alertmanager's log says why: key, address or network."),
        dashboard="trellis-telemetry",
        at="40m",
        fires={
            'alertmanager_notifications_failed_total{instance="am",integration="pagerduty"}': "0+1x60",
            'alertmanager_notifications_total{instance="am",integration="pagerduty"}': "0+10x60",
            'alertmanager_notifications_total{instance="am",integration="slack"}': "0+5x60",
            'alertmanager_notifications_failed_total{instance="am",integration="slack"}': "0x60",
        },
        under={
            'alertmanager_notifications_failed_total{instance="am",integration="pagerduty"}': "0+0.2x60",
            'alertmanager_notifications_total{instance="am",integration="pagerduty"}': "0+10x60",
            'alertmanager_notifications_total{instance="am",integration="slack"}': "0+5x60",
            'alertmanager_notifications_failed_total{instance="am",integration="slack"}': "0x60",
        },
        total={
            'alertmanager_notifications_failed_total{instance="am",integration="pagerduty"}': "0+10x60",
            'alertmanager_notifications_total{instance="am",integration="pagerduty"}': "0+10x60",
            'alertmanager_notifications_total{instance="am",integration="slack"}': "0+5x60",
            'alertmanager_notifications_failed_total{instance="am",integration="slack"}': "0x60",
        },
        total_summary="100% of what goes to pagerduty does not arrive",
    ),
    *quartet(
        "AlertmanagerReloadFailed",
        {"severity": "ticket", "team": "platform", "instance": "am-a:9093"},
        summary="am-a:9093 could not load its configuration",
        description=("It routes by the old one. Its log names the line; `amtool check-config` finds it too."),
        dashboard="trellis-telemetry",
        at="15m",
        fires={'alertmanager_config_last_reload_successful{instance="am-a:9093"}': "1x5 0x20"},
        under={'alertmanager_config_last_reload_successful{instance="am-a:9093"}': "1x12 0x20"},
        total={'alertmanager_config_last_reload_successful{instance="am-a:9093"}': "0x20"},
    ),
    *quartet(
        "AlertmanagerClusterSplit",
        {"severity": "ticket", "team": "platform"},
        summary="An Alertmanager sees 1 members of its cluster",
        description=("There are more. Each part sends by itself: alerts come twice. Is port 9094 open between them?"),
        dashboard="trellis-telemetry",
        at="30m",
        fires={
            'alertmanager_cluster_members{instance="am-a:9093"}': "2x40",
            'alertmanager_cluster_members{instance="am-b:9093"}': "1x40",
            'up{job="alertmanager",instance="am-a:9093"}': "1x40",
            'up{job="alertmanager",instance="am-b:9093"}': "1x40",
        },
        under={
            'alertmanager_cluster_members{instance="am-a:9093"}': "2x40",
            'alertmanager_cluster_members{instance="am-b:9093"}': "2x40",
            'up{job="alertmanager",instance="am-a:9093"}': "1x40",
            'up{job="alertmanager",instance="am-b:9093"}': "1x40",
        },
        total={
            'alertmanager_cluster_members{instance="am-a:9093"}': "1x40",
            'alertmanager_cluster_members{instance="am-b:9093"}': "1x40",
            'up{job="alertmanager",instance="am-a:9093"}': "1x40",
            'up{job="alertmanager",instance="am-b:9093"}': "1x40",
        },
    ),
    *quartet(
        "CollectorRefuses",
        {"severity": "ticket", "team": "platform", "instance": "otel-a:8888", "receiver": "otlp", "transport": "grpc"},
        summary="otel-a:8888 refuses what it is sent over grpc",
        description=("Its memory is at the limit: traces and logs are lost. Give it more, or find what floods it."),
        dashboard="trellis-telemetry",
        at="30m",
        fires={
            ('otelcol_receiver_refused_spans{instance="otel-a:8888",receiver="otlp",transport="grpc"}'): "0x15 0+60x40"
        },
        under={('otelcol_receiver_refused_spans{instance="otel-a:8888",receiver="otlp",transport="grpc"}'): "7x60"},
        total={
            ('otelcol_receiver_refused_spans{instance="otel-a:8888",receiver="otlp",transport="grpc"}'): "0+600x60",
            (
                'otelcol_receiver_refused_log_records{instance="otel-a:8888",receiver="otlp",transport="grpc"}'
            ): "0+600x60",
            (
                'otelcol_receiver_refused_metric_points{instance="otel-a:8888",receiver="otlp",transport="grpc"}'
            ): "0+600x60",
        },
    ),
    *quartet(
        "CollectorQueueFull",
        {"severity": "ticket", "team": "platform", "instance": "otel-a:8888", "exporter": "otlp_http/tempo"},
        summary="The queue of otlp_http/tempo on otel-a:8888 is at 90%",
        description="What it sends to is slow or away. A full queue throws away what comes in.",
        dashboard="trellis-telemetry",
        at="20m",
        fires={
            (
                'otelcol_exporter_queue_size{instance="otel-a:8888",exporter="otlp_http/tempo",data_type="traces"}'
            ): "900x40",
            (
                'otelcol_exporter_queue_capacity{instance="otel-a:8888",exporter="otlp_http/tempo",data_type="traces"}'
            ): "1000x40",
        },
        under={
            (
                'otelcol_exporter_queue_size{instance="otel-a:8888",exporter="otlp_http/tempo",data_type="traces"}'
            ): "790x40",
            (
                'otelcol_exporter_queue_capacity{instance="otel-a:8888",exporter="otlp_http/tempo",data_type="traces"}'
            ): "1000x40",
        },
        total={
            (
                'otelcol_exporter_queue_size{instance="otel-a:8888",exporter="otlp_http/tempo",data_type="traces"}'
            ): "1000x40",
            (
                'otelcol_exporter_queue_capacity{instance="otel-a:8888",exporter="otlp_http/tempo",data_type="traces"}'
            ): "1000x40",
        },
        total_summary="The queue of otlp_http/tempo on otel-a:8888 is at 100%",
    ),
    *quartet(
        "CollectorExportFailing",
        {"severity": "ticket", "team": "platform", "instance": "otel-a:8888", "exporter": "otlp_http/tempo"},
        summary="otlp_http/tempo on otel-a:8888 fails to send",
        description=("Traces, logs or pushed metrics are lost. Look whether Tempo, Loki or Prometheus take them."),
        dashboard="trellis-telemetry",
        at="40m",
        fires={
            ('otelcol_exporter_send_failed_spans{instance="otel-a:8888",exporter="otlp_http/tempo"}'): "0x15 0+60x40"
        },
        under={
            (
                'otelcol_exporter_send_failed_spans{instance="otel-a:8888",exporter="otlp_http/tempo"}'
            ): "0x15 0+60x5 360x60"
        },
        total={('otelcol_exporter_send_failed_spans{instance="otel-a:8888",exporter="otlp_http/tempo"}'): "0+600x60"},
    ),
    *quartet(
        "LokiWritesFailing",
        {"severity": "ticket", "team": "platform"},
        summary="Loki fails 10% of what is written to it",
        description="Logs are late, then lost. Look at its disk and at its access to the bucket.",
        dashboard="trellis-telemetry",
        at="40m",
        fires={
            (
                'loki_request_duration_seconds_count{instance="loki",method="POST",'
                'route="loki_api_v1_push",status_code="204"}'
            ): "0+90x60",
            (
                'loki_request_duration_seconds_count{instance="loki",method="POST",'
                'route="loki_api_v1_push",status_code="500"}'
            ): "0+10x60",
        },
        under={
            (
                'loki_request_duration_seconds_count{instance="loki",method="POST",'
                'route="loki_api_v1_push",status_code="204"}'
            ): "0+98x60",
            (
                'loki_request_duration_seconds_count{instance="loki",method="POST",'
                'route="loki_api_v1_push",status_code="500"}'
            ): "0+2x60",
        },
        total={
            (
                'loki_request_duration_seconds_count{instance="loki",method="POST",'
                'route="loki_api_v1_push",status_code="204"}'
            ): "0+0x60",
            (
                'loki_request_duration_seconds_count{instance="loki",method="POST",'
                'route="loki_api_v1_push",status_code="500"}'
            ): "0+100x60",
        },
        total_summary="Loki fails 100% of what is written to it",
    ),
    *quartet(
        "LokiDiscards",
        {"severity": "ticket", "team": "platform", "reason": "rate_limited"},
        summary="Loki threw away 150 log lines in a quarter of an hour: rate_limited",
        description="They are lost. A limit is too low, or one process logs far too much.",
        dashboard="trellis-telemetry",
        at="40m",
        fires={'loki_discarded_samples_total{instance="loki",reason="rate_limited",tenant="fake"}': "0+10x60"},
        under={'loki_discarded_samples_total{instance="loki",reason="rate_limited",tenant="fake"}': "0+6x60"},
        total={'loki_discarded_samples_total{instance="loki",reason="rate_limited",tenant="fake"}': "0+1000x60"},
        total_summary="Loki threw away 15k log lines in a quarter of an hour: rate_limited",
    ),
    *quartet(
        "TempoDiscards",
        {"severity": "ticket", "team": "platform", "reason": "rate_limited"},
        summary="Tempo threw away 150 spans in a quarter of an hour: rate_limited",
        description="Traces have holes. A limit is too low, or one trace is far too long.",
        dashboard="trellis-telemetry",
        at="40m",
        fires={'tempo_discarded_spans_total{instance="tempo",reason="rate_limited",tenant="t"}': "0+10x60"},
        under={'tempo_discarded_spans_total{instance="tempo",reason="rate_limited",tenant="t"}': "0+6x60"},
        total={'tempo_discarded_spans_total{instance="tempo",reason="rate_limited",tenant="t"}': "0+1000x60"},
        total_summary="Tempo threw away 15k spans in a quarter of an hour: rate_limited",
    ),
    *quartet(
        "TempoRefuses",
        {"severity": "ticket", "team": "platform", "instance": "tempo"},
        summary="tempo of Tempo refuses 1 spans a second",
        description="Traces of now are lost. Look at its storage, and whether all of its parts run.",
        dashboard="trellis-telemetry",
        at="40m",
        fires={'tempo_receiver_refused_spans{instance="tempo",receiver="otlp",transport="grpc"}': "0+60x60"},
        under={'tempo_receiver_refused_spans{instance="tempo",receiver="otlp",transport="grpc"}': "70x60"},
        total={'tempo_receiver_refused_spans{instance="tempo",receiver="otlp",transport="grpc"}': "0+6000x60"},
        total_summary="tempo of Tempo refuses 100 spans a second",
    ),
)
