"""The OpenTelemetry collector of each phase, without agents: what runs sends OTLP to it.

In a cluster two tiers: gateways take everything in, mask it and hand each trace to one sampler, by its id; samplers
wait until a trace is whole and keep or drop it. On one machine both are one process.

    app --OTLP--> gateway --logs--> Loki, --metrics--> Prometheus, --spans by trace id--> sampler --spans--> Tempo

Addresses come from the environment, with defaults of the cluster (or of this machine). What cannot be sent waits in
files under `COLLECTOR_QUEUE`, through a restart too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from app.telemetry.names import DRAWN, LASTS
from app.telemetry.sampling import LASTING
from infra.phases import Compute, Phase
from provisioning.src import masking
from provisioning.src.files import ROOM, Document, text
from provisioning.src.sampling import Plan, plan

FOLDER: Final = ROOM / "collector"
OWN_METRICS: Final = 8888
HEALTH: Final = 13133
QUEUED: Final = 10_000
"""Requests of apps that may wait for each destination, on disk. Of 512 spans each they take 7 GB, and at 30 a second
(1,000 traces of 15 spans) fill up in five minutes.
"""
RETRY_S: Final = 300
"""A destination may be away for this long; then what waits for it is given up."""
_STORE: Final = "file_storage"


def files(phase: Phase) -> Mapping[Path, str]:
    """One file on one machine, two in a cluster."""
    sizes = plan(phase)
    folder = FOLDER / phase.name.value
    if phase.fleet.compute is Compute.INSTANCE:
        return {folder / "collector.yaml": text(alone(sizes))}
    return {folder / "gateway.yaml": text(gateway()), folder / "sampler.yaml": text(sampler(sizes))}


def alone(sizes: Plan) -> Document:
    """Gateway and sampler in one process that listens to this machine."""
    return _collector(
        address="127.0.0.1",
        processors={**masking.processors(), "tail_sampling": tail_sampling(sizes)},
        exporters={
            "otlp_http/tempo": _sends("${env:TEMPO_URL:-http://127.0.0.1:14318}"),
            "otlp_http/loki": _sends("${env:LOKI_URL:-http://127.0.0.1:3100}/otlp"),
            "otlp_http/prometheus": _sends("${env:PROMETHEUS_URL:-http://127.0.0.1:9090}/api/v1/otlp"),
        },
        pipelines={
            "traces": ([*_MASKED_SPANS, "tail_sampling"], "otlp_http/tempo"),
            "logs": (["redaction"], "otlp_http/loki"),
            "metrics": (["redaction"], "otlp_http/prometheus"),
        },
    )


def gateway() -> Document:
    """Takes in and masks; knows nothing of a trace as a whole, so there may be any number of them."""
    place = ["k8s_attributes", "transform/region"]
    return _collector(
        address="0.0.0.0",  # noqa: S104 - pods send to it
        processors={"k8s_attributes": _PODS, "transform/region": _REGION, **masking.processors()},
        exporters={
            "load_balancing": _to_samplers(),
            "otlp_http/loki": _sends("${env:LOKI_URL:-http://loki:3100}/otlp"),
            "otlp_http/prometheus": _sends("${env:PROMETHEUS_URL:-http://prometheus:9090}/api/v1/otlp"),
        },
        pipelines={
            "traces": ([*place, *_MASKED_SPANS], "load_balancing"),
            "logs": ([*place, "redaction"], "otlp_http/loki"),
            "metrics": ([*place, "redaction"], "otlp_http/prometheus"),
        },
    )


def sampler(sizes: Plan) -> Document:
    """Sees every span of a trace, since gateways send by the trace's id."""
    return _collector(
        address="0.0.0.0",  # noqa: S104 - gateways send to it
        processors={"tail_sampling": tail_sampling(sizes)},
        exporters={"otlp_http/tempo": _sends("${env:TEMPO_URL:-http://tempo:4318}")},
        pipelines={"traces": (["tail_sampling"], "otlp_http/tempo")},
    )


def tail_sampling(sizes: Plan) -> Document:
    """The rules for traces; late spans of a decided trace follow its decision."""
    return {
        "decision_wait": f"{sizes.wait_s:g}s",
        "num_traces": sizes.waiting_each,
        "expected_new_traces_per_sec": sizes.new_each,
        "decision_cache": {
            "sampled_cache_size": 4 * sizes.waiting_each,
            "non_sampled_cache_size": 4 * sizes.waiting_each,
        },
        "policies": [
            {"name": "failed", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
            _slow_request(sizes.slow_ms),
            {"name": "slow-stream", "type": "latency", "latency": {"threshold_ms": round(LASTING * sizes.slow_ms)}},
            # An app that draws by itself has drawn these from many: drawing again would leave one in a hundred.
            {"name": "drawn", "type": "boolean_attribute", "boolean_attribute": {"key": DRAWN, "value": True}},
            {"name": "rest", "type": "probabilistic", "probabilistic": {"sampling_percentage": sizes.percent}},
        ],
    }


def _slow_request(slow_ms: int) -> Document:
    """A stream lasts as long as its answer is: it counts as slow later, as in the app's own sampling."""
    lasts = {"name": "lasts", "type": "boolean_attribute", "boolean_attribute": {"key": LASTS, "value": True}}
    slow = {"name": "over-target", "type": "latency", "latency": {"threshold_ms": slow_ms}}
    no_stream = {"name": "no-stream", "type": "not", "not": {"not_sub_policy": lasts}}
    return {"name": "slow", "type": "and", "and": {"and_sub_policy": [slow, no_stream]}}


_MASKED_SPANS: Final = ("redaction", "transform/names")
_PODS: Final[Document] = {
    "auth_type": "serviceAccount",
    "extract": {
        "metadata": ["k8s.namespace.name", "k8s.pod.name", "k8s.node.name", "k8s.deployment.name", "k8s.container.name"]
    },
    "pod_association": [
        {"sources": [{"from": "resource_attribute", "name": "k8s.pod.ip"}]},
        {"sources": [{"from": "connection"}]},
    ],
}
_REGION: Final[Document] = {
    f"{signal}_statements": [
        'set(resource.attributes["cloud.region"], "${env:TRELLIS_REGION}") '
        'where resource.attributes["cloud.region"] == nil'
    ]
    for signal in ("trace", "log", "metric")
}


def _collector(
    *,
    address: str,
    processors: Document,
    exporters: Document,
    pipelines: Mapping[str, tuple[Sequence[str], str]],
) -> Document:
    """`pipelines`: what each signal passes, behind the limiter of memory, and where it goes."""
    protocols = {"grpc": {"endpoint": f"{address}:4317"}, "http": {"endpoint": f"{address}:4318"}}
    return {
        "extensions": {
            "health_check": {"endpoint": f"{address}:{HEALTH}"},
            _STORE: {"directory": "${env:COLLECTOR_QUEUE:-/var/lib/otelcol}", "create_directory": True},
        },
        "receivers": {"otlp": {"protocols": protocols}},
        "processors": {"memory_limiter": _MEMORY, **processors},
        "exporters": exporters,
        "service": {
            "extensions": ["health_check", _STORE],
            "telemetry": _telemetry(address),
            "pipelines": {
                signal: {"receivers": ["otlp"], "processors": ["memory_limiter", *passed], "exporters": [to]}
                for signal, (passed, to) in pipelines.items()
            },
        },
    }


_MEMORY: Final[Document] = {"check_interval": "1s", "limit_percentage": 80, "spike_limit_percentage": 20}


def _telemetry(address: str) -> Document:
    reader = {"pull": {"exporter": {"prometheus": {"host": address, "port": OWN_METRICS}}}}
    return {"logs": {"encoding": "json", "level": "info"}, "metrics": {"level": "normal", "readers": [reader]}}


def _sends(url: str) -> Document:
    return {"endpoint": url, "compression": "gzip", **_queue(), "retry_on_failure": _retries()}


def _queue() -> dict[str, Any]:
    batch = {"flush_timeout": "1s", "sizer": "items", "min_size": 2_000, "max_size": 8_000}
    return {"sending_queue": {"queue_size": QUEUED, "num_consumers": 4, "storage": _STORE, "batch": batch}}


def _retries() -> Document:
    return {"initial_interval": "1s", "max_interval": "30s", "max_elapsed_time": f"{RETRY_S}s"}


def _to_samplers() -> Document:
    """The queue is before the choice of a sampler: what one that has gone did not take goes to another."""
    return {
        "routing_key": "traceID",
        **_queue(),
        "retry_on_failure": _retries(),
        "protocol": {"otlp": {"tls": {"insecure": True}, "timeout": "5s", "sending_queue": {"enabled": False}}},
        "resolver": {
            "dns": {
                "hostname": "${env:SAMPLERS:-otel-collector-sampler-headless}",
                "port": "4317",
                "interval": "5s",
            }
        },
    }
