"""What the small pods are promised, and how much of everything a namespace may ask for at its phase's most."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from infra.kubernetes.backends import Backends
from infra.kubernetes.pods import APPS, DATA, MODELS, TELEMETRY
from infra.phases import Phase, Pod
from infra.pools import in_rollout

POOLER: Final = Pod(200, 128)
EXPORTER: Final = Pod(20, 64)
SNAPSHOTS: Final = Pod(200, 512)
UPLOAD: Final = Pod(100, 512)
POSTGRES: Final = Pod(500, 1536)
REDIS: Final = Pod(100, 384)
STORE_DISK_GIB: Final = 20
REDIS_DISK_GIB: Final = 5
COLOURS: Final = 2
WORKERS_LEAST: Final = 2
"""One is left while another is replaced."""


@dataclass(frozen=True, slots=True)
class Room:
    """Thousandths of a core, MiB, GiB of volumes."""

    pods: int
    cpu: int
    memory: int
    disk: int = 0
    gpus: int = 0


# Telemetry of any phase: two of each of Prometheus, Alertmanager and Grafana, collectors, samplers, exporters.
_TELEMETRY: Final = Room(pods=100, cpu=16_000, memory=48 * 1024, disk=1_000)


def rooms(phase: Phase, backends: Backends) -> Mapping[str, Room]:
    """By namespace: all that the phase ever runs at once, with both colours at their most and a rollout under way."""
    found = {APPS: _apps(phase), DATA: _data(phase, backends), TELEMETRY: _TELEMETRY}
    if backends.models is not None:
        # One more than there are nodes for: what replaces a pod waits for its place.
        most = backends.models.most + 1
        found[MODELS] = _sum([(backends.models.pod, most)], disk=most * 100, gpus=most)
    return found


def _apps(phase: Phase) -> Room:
    server = phase.server
    assert server is not None
    poolers = COLOURS * server.poolers
    return _sum(
        [
            (phase.api, COLOURS * in_rollout(phase.fleet.most)),
            (phase.worker, in_rollout(server.workers)),
            # A migration of each colour.
            (phase.worker, COLOURS),
            (POOLER, poolers),
            (EXPORTER, poolers),
        ]
    )


def _data(phase: Phase, backends: Backends) -> Room:
    vectors = phase.vectors
    assert vectors is not None
    disk = vectors.peers * vectors.disk_gib
    pods = [(vectors.pod, vectors.peers)]
    if backends.snapshots is not None:
        pods += [(SNAPSHOTS, 1), (UPLOAD, 1)]
        disk *= 2
    if backends.in_cluster:
        pods += [(POSTGRES, 1), (REDIS, 1)]
        disk += STORE_DISK_GIB + REDIS_DISK_GIB
    return _sum(pods, disk=disk)


def _sum(pods: Iterable[tuple[Pod, int]], *, disk: int = 0, gpus: int = 0) -> Room:
    found = list(pods)
    return Room(
        pods=sum(number for _, number in found),
        cpu=sum(pod.cpu * number for pod, number in found),
        memory=sum(pod.memory * number for pod, number in found),
        disk=disk,
        gpus=gpus,
    )
