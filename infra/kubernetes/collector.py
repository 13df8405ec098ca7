"""The OpenTelemetry collector: gateways that mask, samplers that keep what is worth it (docs/decisions/0043)."""

from collections.abc import Sequence
from math import ceil
from typing import Final

import pulumi
from pulumi_kubernetes.core import v1 as core

from infra.kubernetes.mounted import Mounted, read, token
from infra.kubernetes.part import Part
from infra.kubernetes.pods import TELEMETRY, value
from infra.kubernetes.process import Process, stateful_set
from infra.kubernetes.rights import SEEN, reads
from infra.kubernetes.watching import Watching
from infra.phases import Phase, Pod
from infra.settings import Stack
from infra.versions import COLLECTOR
from provisioning.src.sampling import TRACE_BYTES, plan

GATEWAY: Final = "otel-collector"
SAMPLER: Final = "otel-collector-sampler"
OTLP: Final = 4317
OTLP_HTTP: Final = 4318
OWN: Final = 8888
_HEALTH: Final = 13133
_FOLDER: Final = "/etc/otelcol"
_QUEUE: Final = "/var/lib/otelcol"
_QUEUE_GIB: Final = 10
"""What cannot be sent waits there: 7 GB at most (`QUEUED` in `provisioning/src/collector.py`)."""
_ITSELF_MIB: Final = 200
_REFUSES_AT: Final = 0.6
"""Its memory limiter begins to refuse at this share of its memory: 80 % less the 20 % that a burst may take."""


class Collector(Part):
    """Both tiers. The gateways' address is `otel-collector`; a gateway finds every sampler by the headless service."""

    def __init__(self, stack: Stack, watching: Watching, parent: Part) -> None:
        super().__init__("Collector", stack, parent.child())
        self._watching = watching
        rights = reads(self, GATEWAY, [("", ("pods", "namespaces", "nodes"), SEEN), ("apps", ("replicasets",), SEEN)])
        gateways = 3 if watching.replicated else 2
        pod = Pod(300, 512) if watching.replicated else Pod(100, 256)
        # Only a gateway asks the API server: which pod a span comes from.
        self._tier(GATEWAY, "gateway", pod, gateways, [token()], after=[rights])
        self._tier(SAMPLER, "sampler", sampler_pod(watching.phase), plan(watching.phase).samplers, [])
        self.register_outputs({})

    def _tier(
        self,
        name: str,
        tier: str,
        pod: Pod,
        replicas: int,
        volumes: Sequence[tuple[core.VolumeArgs, core.VolumeMountArgs]],
        after: Sequence[pulumi.Resource] = (),
    ) -> None:
        watching = self._watching
        file = f"{tier}.yaml"
        text = read(f"provisioning/collector/{watching.phase.name.value}/{file}")
        config = Mounted(f"collector-{tier}", TELEMETRY, "config", text, self.child())
        process = Process(
            name=name,
            job="otel-collector",
            component=tier,
            image=COLLECTOR,
            uid=10001,
            pod=pod,
            ports={"otlp-grpc": OTLP, "otlp-http": OTLP_HTTP, "metrics": OWN, "health": _HEALTH},
            probed=_HEALTH,
            ready="/",
            alive="/",
            zones=watching.backends.zones,
            replicas=replicas,
            # A sampler decides on what it holds before it goes.
            grace_s=90,
            args=[f"--config={_FOLDER}/{file}"],
            env=[value("TRELLIS_REGION", watching.region), value("GOMEMLIMIT", f"{int(pod.memory * 0.8)}MiB")],
            volumes=[config.volume, *(volume for volume, _ in volumes)],
            mounts=[config.at(_FOLDER), *(mount for _, mount in volumes)],
        )
        disk = watching.disk(_QUEUE, _QUEUE_GIB)
        stateful_set(self, process, disk, after=after, lasting=watching.backends.lasting)


def sampler_pod(phase: Phase) -> Pod:
    """Memory for all traces that may wait in one sampler while another is gone, and for itself."""
    waiting = plan(phase).waiting_each * TRACE_BYTES / (1 << 20)
    return Pod(200, ceil((waiting + _ITSELF_MIB) / _REFUSES_AT / 64) * 64)
