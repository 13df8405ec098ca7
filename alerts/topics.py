"""Every subject of rules: a file of its own in each phase that has something to say about it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from alerts.anomaly import anomaly
from alerts.cost import cost
from alerts.drift import drift
from alerts.jobs import jobs
from alerts.model import Group, Site
from alerts.overview import overview
from alerts.platform import certificates, kubernetes, nodes
from alerts.postgres import pgbouncer, postgres
from alerts.presence import presence
from alerts.providers import models
from alerts.quality import quality
from alerts.regions import regions, serving
from alerts.service import service
from alerts.serving_models import gpu, vllm
from alerts.slo import availabilities, clock, latencies, own_shares
from alerts.stores import backups, qdrant, redis
from alerts.targets import targets
from alerts.watching import watching

Topic = Callable[[Site], Sequence[Group]]

TOPICS: Final[Mapping[str, Topic]] = {
    "targets": targets,
    "clock": clock,
    "availability": availabilities,
    "latency": latencies,
    "own_share": own_shares,
    "presence": presence,
    "models": models,
    "cost": cost,
    "quality": quality,
    "drift": drift,
    "anomaly": anomaly,
    "jobs": jobs,
    "service": service,
    "serving": serving,
    "overview": overview,
    "postgres": postgres,
    "pgbouncer": pgbouncer,
    "redis": redis,
    "qdrant": qdrant,
    "backups": backups,
    "vllm": vllm,
    "gpu": gpu,
    "kubernetes": kubernetes,
    "nodes": nodes,
    "certificates": certificates,
    "telemetry": watching,
}

GLOBAL_TOPICS: Final[Mapping[str, Topic]] = {"regions": regions}
"""What the Prometheus above all regions evaluates, where a phase has several."""
