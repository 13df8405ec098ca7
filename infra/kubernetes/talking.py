"""The flows of the app and its stores: what `flows.py` opens."""

from collections.abc import Sequence
from typing import Final

from infra.kubernetes import environment
from infra.kubernetes.backends import CACHE_PORT, POSTGRES_PORT, Backends
from infra.kubernetes.flows import INTERNET, End, Flow, Namespaces, Networks, Pods
from infra.kubernetes.pgbouncer import EXPORTER_PORT
from infra.kubernetes.pods import APPS, DATA, MODELS, TELEMETRY
from infra.kubernetes.qdrant import GRPC, HTTP, PEERS
from infra.phases import Phase
from infra.service_accounts import SNAPSHOTS

API: Final = Pods(APPS, "trellis-api")
WORKER: Final = Pods(APPS, "trellis-worker")
MIGRATE: Final = Pods(APPS, "trellis-migrate")
POOLER: Final = Pods(APPS, "pgbouncer")
QDRANT: Final = Pods(DATA, "qdrant")
BACKUP: Final = Pods(DATA, SNAPSHOTS.name)
POSTGRES: Final = Pods(DATA, "postgres")
REDIS: Final = Pods(DATA, "redis")
VLLM: Final = Pods(MODELS, "vllm")
COLLECTOR: Final = Pods(TELEMETRY, "otel-collector")
PROMETHEUS: Final = Pods(TELEMETRY, "prometheus")
_CONTROLLERS: Final = Namespaces(("ingress-nginx", "kube-system", "traefik"))
"""Where ingress controllers are: of their own, and k3s's."""
_POD_IDENTITY: Final = Networks("169.254.170.23/32")
"""EKS's agent on each node, which gives a pod the rights of its service account."""


def flows(phase: Phase, backends: Backends) -> Sequence[Flow]:
    """All of them but those among telemetry's own pods."""
    return [
        Flow(_door(backends), API, (environment.PORT,)),
        *(flow for who in (API, WORKER) for flow in _of_process(who, phase, backends)),
        # A worker's jobs keep a session, which no pooler does; a migration locks.
        *(Flow(who, _database(backends), (POSTGRES_PORT,)) for who in _direct(phase)),
        *(Flow(PROMETHEUS, who, (environment.PORT,)) for who in (API, WORKER)),
        *_of_pooler(phase, backends),
        *_of_vectors(backends),
    ]


def _door(backends: Backends) -> End:
    return _CONTROLLERS if backends.proxies is None else Networks(backends.proxies)


def _direct(phase: Phase) -> Sequence[Pods]:
    return (WORKER, MIGRATE) if environment.pooled(phase) else (API, WORKER, MIGRATE)


def _database(backends: Backends) -> End:
    return POSTGRES if backends.network is None else Networks(backends.network)


def _of_process(who: Pods, phase: Phase, backends: Backends) -> Sequence[Flow]:
    cache = REDIS if backends.network is None else Networks(backends.network)
    return [
        *([Flow(who, POOLER, (environment.POOLER_PORT,))] if environment.pooled(phase) else []),
        *([Flow(who, VLLM, (8000,))] if backends.models is not None else []),
        Flow(who, cache, (CACHE_PORT,)),
        Flow(who, QDRANT, (HTTP,)),
        Flow(who, COLLECTOR, (environment.COLLECTOR_PORT,)),
        # Hosted models, and the systems that packs work with.
        Flow(who, INTERNET, (443,)),
    ]


def _of_pooler(phase: Phase, backends: Backends) -> Sequence[Flow]:
    if not environment.pooled(phase):
        return []
    return [Flow(POOLER, _database(backends), (POSTGRES_PORT,)), Flow(PROMETHEUS, POOLER, (EXPORTER_PORT,))]


def _of_vectors(backends: Backends) -> Sequence[Flow]:
    found = [Flow(QDRANT, QDRANT, (HTTP, GRPC, PEERS)), Flow(PROMETHEUS, QDRANT, (HTTP,))]
    if backends.snapshots is not None:
        found += [
            Flow(BACKUP, QDRANT, (HTTP,)),
            Flow(BACKUP, INTERNET, (443,)),
            Flow(BACKUP, _POD_IDENTITY, (80,)),
        ]
    return found
