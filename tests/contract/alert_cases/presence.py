"""Watchdog, and a case of each kind for each job that Prometheus scrapes."""

from collections.abc import Iterator

from tests.support.alert_cases import Case, Fired, Kind

WHAT = {
    "trellis-api": ("api", "the app's API processes"),
    "trellis-worker": ("api", "the app's workers, where they are processes of their own"),
    "prometheus": ("platform", "Prometheus itself"),
    "alertmanager": ("platform", "Alertmanager"),
    "node": ("platform", "node_exporter"),
    "litestream": ("platform", "Litestream, which streams SQLite to S3"),
    "otel-collector": ("platform", "the OpenTelemetry collector's own figures"),
    "grafana": ("platform", "Grafana"),
    "loki": ("platform", "Loki"),
    "tempo": ("platform", "Tempo"),
    "postgres": ("data", "postgres_exporter, one for each server"),
    "pgbouncer": ("data", "pgbouncer_exporter"),
    "redis": ("data", "redis_exporter, one for each node"),
    "qdrant": ("data", "Qdrant"),
    "vllm": ("models", "vLLM"),
    "dcgm": ("models", "dcgm-exporter, one for each GPU node"),
    "kube-state-metrics": ("platform", "kube-state-metrics"),
    "kubelet": ("platform", "each node's kubelet: volumes, pods"),
    "cadvisor": ("platform", "each node's containers, by its kubelet"),
    "karpenter": ("platform", "Karpenter"),
    "keda": ("platform", "KEDA's operator"),
    "cert-manager": ("platform", "cert-manager"),
}


def _fired(job: str) -> Fired:
    team, what = WHAT[job]
    serving = job in ("trellis-api", "trellis-worker")
    advice = (
        "Users are probably not served, and no other alert can see it: look at the processes first."
        if serving
        else "Its alerts are blind until it is back: look whether the process or only its scrape is gone."
    )
    return Fired(
        labels={"severity": "page" if serving else "ticket", "team": team, "job": job},
        summary=f"No process of {job} answers Prometheus",
        description=f"Every target of the job {job} ({what}) is down, or there is none. {advice}",
        runbook_url="https://git.trellis.example/trellis/runbooks/alerts/MetricsAbsent.md",
        dashboard_url="https://grafana.trellis.example/d/trellis-telemetry",
    )


def _up(others: str) -> dict[str, str]:
    return {f'up{{job="{job}",instance="{job}:1"}}': "1+0x30" for job in WHAT if job != others}


def _absent(job: str) -> Iterator[Case]:
    one, two = f'up{{job="{job}",instance="a:1"}}', f'up{{job="{job}",instance="b:1"}}'
    asked = {"alert": "MetricsAbsent", "only": {"job": job}, "at": "20m"}
    yield Case(kind=Kind.FIRES, series=_up(job) | {one: "1+0x5 0+0x20"}, fired=[_fired(job)], **asked)
    yield Case(kind=Kind.UNDER, series=_up(job) | {one: "1+0x5 0+0x20", two: "1+0x30"}, **asked)
    yield Case(kind=Kind.NO_TRAFFIC, series=_up(job), fired=[_fired(job)], **asked)
    yield Case(kind=Kind.TOTAL, series=_up(job) | {one: "0+0x30", two: "0+0x30"}, fired=[_fired(job)], **asked)


ALWAYS = Fired(
    labels={"severity": "none", "team": "platform"},
    summary="Alerting works",
    description=(
        "This alert always fires. It goes to a service outside that raises the alarm when it stops coming: "
        "then Prometheus, Alertmanager or the way to them is broken."
    ),
    runbook_url="https://git.trellis.example/trellis/runbooks/alerts/Watchdog.md",
    dashboard_url="https://grafana.trellis.example/d/trellis-telemetry",
)

CASES = (
    Case("Watchdog", Kind.FIRES, series={"up": "1x5"}, at="0m", fired=[ALWAYS]),
    Case("Watchdog", Kind.UNDER, reason="it fires as long as Prometheus evaluates rules"),
    Case("Watchdog", Kind.NO_TRAFFIC, series={}, at="5m", fired=[ALWAYS]),
    Case("Watchdog", Kind.TOTAL, reason="nothing evaluates it then: whoever waits for it raises the alarm"),
    *(case for job in WHAT for case in _absent(job)),
)
