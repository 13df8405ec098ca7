"""All that watches: metrics, alerts, boards, logs, traces, and the exporters of what does not tell by itself."""

from collections.abc import Sequence
from typing import Final

import pulumi

from infra.kubernetes import alertmanager, collector, exporters, federation, gpu, grafana, loki, prometheus, tempo
from infra.kubernetes.backends import CACHE_PORT, POSTGRES_PORT, Backends
from infra.kubernetes.flows import INTERNET, MESH_PORT, Flow, Namespaces, Networks, Pods
from infra.kubernetes.part import Part
from infra.kubernetes.pods import DATA, MODELS, TELEMETRY
from infra.kubernetes.watching import API_SERVER, PRIVATE, Watching
from infra.phases import Phase
from infra.scrapes import scrapes
from infra.settings import Stack

_HOME: Final = {"vllm": MODELS}
"""Where the pods of a job are; those that are not here are telemetry's own."""
_WITH_APPS: Final = frozenset({"trellis-api", "trellis-worker", "pgbouncer", "qdrant"})
"""That Prometheus asks these is among the apps' flows (`talking.py`)."""
_OTHERS: Final = {"karpenter": "kube-system", "keda": "keda", "cert-manager": "cert-manager"}
"""Operators, by job, with the namespace that their chart is put into (`addons.py`)."""
_OF_NODES: Final = frozenset({"kubelet", "cadvisor", "node"})


class Telemetry(Part):
    """Everything of `infra/scrapes.py` that is not an app, a store or an operator.

    Args:
        gpus: there are nodes with GPUs.
    """

    def __init__(
        self,
        stack: Stack,
        watching: Watching,
        opts: pulumi.ResourceOptions,
        *,
        gpus: bool,
        after: Sequence[pulumi.Resource] = (),
    ) -> None:
        super().__init__("Telemetry", stack, opts, after=after)
        prometheus.Prometheus(stack, watching, self)
        if watching.target_group is not None:
            federation.Federation(stack, watching, watching.target_group, self)
        alertmanager.Alertmanager(stack, watching, self)
        grafana.Grafana(stack, watching, self)
        loki.Loki(stack, watching, self)
        tempo.Tempo(stack, watching, self)
        collector.Collector(stack, watching, self)
        exporters.Exporters(stack, watching, self)
        if gpus:
            gpu.GpuExporter(stack, self)
        self.register_outputs({})


def flows(watching: Watching, *, mesh: bool) -> Sequence[Flow]:
    """Who of telemetry talks to whom. Apps that send to the collector are among the apps' own flows.

    Args:
        mesh: KEDA, too, asks Prometheus through the mesh.
    """
    phase, backends = watching.phase, watching.backends
    asks = Pods(TELEMETRY, "prometheus")
    shows = Pods(TELEMETRY, "grafana")
    collects = Pods(TELEMETRY, collector.GATEWAY)
    logs, traces, alerts = (Pods(TELEMETRY, name) for name in ("loki", "tempo", "alertmanager"))
    api = Networks(PRIVATE)
    by_keda = (prometheus.PORT, MESH_PORT) if mesh else (prometheus.PORT,)
    stores = Networks(backends.network) if backends.network is not None else None
    return [
        *_asked(phase, backends, asks),
        *_across_regions(watching, asks),
        *(Flow(one, api, API_SERVER) for one in (asks, collects, Pods(TELEMETRY, "kube-state-metrics"))),
        Flow(asks, alerts, (alertmanager.PORT,)),
        Flow(alerts, INTERNET, (443,)),
        Flow(alerts, alerts, (alertmanager.GOSSIP,), ("TCP", "UDP")),
        *(Flow(shows, one, (port,)) for one, port in ((asks, 9090), (logs, 3100), (traces, 3200), (alerts, 9093))),
        # Both tiers have one name: gateways send to samplers.
        Flow(collects, collects, (collector.OTLP,)),
        Flow(collects, traces, (tempo.OTLP_HTTP,)),
        Flow(collects, logs, (loki.PORT,)),
        Flow(collects, asks, (prometheus.PORT,)),
        Flow(logs, logs, (loki.GRPC, loki.GOSSIP)),
        *([Flow(one, INTERNET, (443,)) for one in (logs, traces)] if watching.shared else []),
        *([Flow(one, _POD_IDENTITY, (80,)) for one in (logs, traces)] if watching.shared else []),
        *_exporters_flows(stores),
        *([Flow(Namespaces((_OTHERS["keda"],)), asks, by_keda)] if "keda" in _jobs(phase) else []),
    ]


def _across_regions(watching: Watching, asks: Pods) -> Sequence[Flow]:
    """Each region's Prometheus is asked by the balancer for the others', and asks theirs."""
    balancer = watching.backends.proxies
    if watching.target_group is None or balancer is None:
        return []
    return [Flow(Networks(balancer), asks, (prometheus.PORT,)), Flow(asks, Networks(PRIVATE), (prometheus.PORT,))]


_POD_IDENTITY: Final = Networks("169.254.170.23/32")
"""Where EKS's agent on each node gives a pod its role."""


def _jobs(phase: Phase) -> frozenset[str]:
    return frozenset(scrape.job for scrape in scrapes(phase))


def _asked(phase: Phase, backends: Backends, asks: Pods) -> Sequence[Flow]:
    """By Prometheus: whatever `infra/scrapes.py` names."""
    found: list[Flow] = []
    for scrape in scrapes(phase):
        if _HOME.get(scrape.job) == MODELS and backends.models is None:
            # Hosted ones: there is no such namespace.
            continue
        if scrape.job in _OF_NODES:
            found.append(Flow(asks, Networks(PRIVATE), (scrape.port,)))
        elif scrape.job in _OTHERS:
            found.append(Flow(asks, Namespaces((_OTHERS[scrape.job],)), (scrape.port,)))
        elif scrape.job == "dcgm":
            found.append(Flow(asks, Namespaces((exporters.NODES,)), (scrape.port,)))
        elif scrape.job not in _WITH_APPS:
            found.append(Flow(asks, Pods(_HOME.get(scrape.job, TELEMETRY), scrape.job), (scrape.port,)))
    return found


def _exporters_flows(stores: Networks | None) -> Sequence[Flow]:
    asked = (("postgres", POSTGRES_PORT), ("redis", CACHE_PORT))
    return [
        Flow(Pods(TELEMETRY, name), stores if stores is not None else Pods(DATA, name), (port,)) for name, port in asked
    ]
