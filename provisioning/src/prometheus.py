"""Prometheus's own file for each phase: what it asks, which rules it reads, whom it tells.

Paths are relative to the file, so that a clone needs no other. In a cluster a pod is asked where its label
`app.kubernetes.io/name` is the job's name (`_LABELS` has those that others chose) and a port of one of its containers
is the job's. `${TRELLIS_REGION}` is taken from the environment (`--enable-feature=expand-external-labels`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.phases import Compute, Phase
from infra.scrapes import Scrape, metrics_host, scrapes
from provisioning.src.files import ROOM, Document, text

FOLDER: Final = ROOM / "prometheus"
SCRAPE_S: Final = 15
FEDERATE_S: Final = 30
EXEMPLARS: Final = 100_000
"""Kept in memory, about 100 bytes each: the newest ones of all series."""
SECRETS: Final = "/etc/prometheus/secrets"
_SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_LABELS: Final[Mapping[str, str]] = {"keda": "keda-operator"}
_OF_NODES: Final = frozenset({"kubelet", "cadvisor"})
_WITH_KEY: Final = frozenset({"qdrant"})
"""Asked with a key, which lies in a file of the same name as the job."""
_OF_OTHERS: Final = frozenset({"kube-state-metrics", "dcgm", "keda", "cert-manager"})
"""They tell of other pods and nodes: `namespace`, `pod` and `node` are those, not the exporter's own."""


def files(phase: Phase) -> Mapping[Path, str]:
    """The files of a phase; with several regions, also that of the Prometheus which sees them all."""
    found = {FOLDER / phase.name.value / "prometheus.yaml": text(_of_phase(phase))}
    if len(phase.fleet.regions) > 1:
        found[FOLDER / phase.name.value / "global.yaml"] = text(_of_all_regions(phase))
    return found


def _of_phase(phase: Phase) -> Document:
    one_machine = phase.fleet.compute is Compute.INSTANCE
    jobs = [_static(scrape) for scrape in scrapes(phase)] if one_machine else _discovered(phase)
    return {
        "global": _global(phase, SCRAPE_S, region="${TRELLIS_REGION}"),
        "storage": {"exemplars": {"max_exemplars": EXEMPLARS}},
        "rule_files": [f"../../../alerts/rules/{phase.name.value}/*.yaml"],
        "alerting": {"alertmanagers": [_static_alertmanager() if one_machine else _discovered_alertmanager()]},
        "scrape_configs": jobs,
    }


def _global(phase: Phase, every_s: int, **labels: str) -> Document:
    return {
        "scrape_interval": f"{every_s}s",
        "evaluation_interval": f"{every_s}s",
        "external_labels": {"phase": phase.name.value, **labels},
    }


def _static(scrape: Scrape) -> Document:
    targets = [{"targets": [f"127.0.0.1:{scrape.port}"]}]
    return {"job_name": scrape.job, "metrics_path": scrape.path, "static_configs": targets}


def _static_alertmanager() -> Document:
    return {"static_configs": [{"targets": ["127.0.0.1:9093"]}]}


def _discovered_alertmanager() -> Document:
    """Every one of a cluster: they agree among themselves on who tells."""
    return {"kubernetes_sd_configs": [{"role": "pod"}], "relabel_configs": _pods_of("alertmanager", 9093)}


def _discovered(phase: Phase) -> list[Document]:
    return [_of_nodes(scrape) if scrape.job in _OF_NODES else _of_pods(scrape) for scrape in scrapes(phase)]


def _of_pods(scrape: Scrape) -> Document:
    key = {"authorization": {"credentials_file": f"{SECRETS}/{scrape.job}"}} if scrape.job in _WITH_KEY else {}
    return {
        "job_name": scrape.job,
        "metrics_path": scrape.path,
        **({"honor_labels": True} if scrape.job in _OF_OTHERS else {}),
        **key,
        "kubernetes_sd_configs": [{"role": "pod"}],
        "relabel_configs": [*_pods_of(scrape.job, scrape.port), *_PLACE],
    }


def _pods_of(job: str, port: int) -> list[Document]:
    return [
        _keep("__meta_kubernetes_pod_label_app_kubernetes_io_name", _LABELS.get(job, job)),
        _keep("__meta_kubernetes_pod_container_port_number", str(port)),
        # A pod that has ended is still listed.
        {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "Succeeded|Failed", "action": "drop"},
    ]


def _keep(label: str, value: str) -> Document:
    return {"source_labels": [label], "regex": value, "action": "keep"}


def _named(label: str, target: str) -> Document:
    return {"source_labels": [label], "target_label": target}


_PLACE: Final[list[Document]] = [
    _named("__meta_kubernetes_namespace", "namespace"),
    _named("__meta_kubernetes_pod_name", "pod"),
    _named("__meta_kubernetes_pod_node_name", "node"),
]


def _of_nodes(scrape: Scrape) -> Document:
    """What the kubelet of each node tells, with the certificate and the token of a pod of the cluster."""
    return {
        "job_name": scrape.job,
        "metrics_path": scrape.path,
        "scheme": "https",
        "authorization": {"credentials_file": f"{_SERVICE_ACCOUNT}/token"},
        "tls_config": {"ca_file": f"{_SERVICE_ACCOUNT}/ca.crt"},
        "kubernetes_sd_configs": [{"role": "node"}],
        "relabel_configs": [_named("__meta_kubernetes_node_name", "node")],
    }


def _of_all_regions(phase: Phase) -> Document:
    """Takes what the rules of each region recorded, not the raw series: a few hundred a region.

    Every region has one, so that whoever is left tells; what they tell has the same labels, so that it is told once.
    """
    (port,) = (scrape.port for scrape in scrapes(phase) if scrape.job == "prometheus")
    federate = {
        "job_name": "regions",
        "honor_labels": True,
        "metrics_path": "/federate",
        "params": {"match[]": ['{__name__=~"trellis:.+"}', "ALERTS", "trellis_build_info", 'up{job="prometheus"}']},
        "static_configs": [
            {"targets": [f"{metrics_host(region)}:{port}"], "labels": {"region": region}}
            for region in phase.fleet.regions
        ],
    }
    return {
        "global": _global(phase, FEDERATE_S),
        "rule_files": [f"../../../alerts/rules/{phase.name.value}-global/*.yaml"],
        "alerting": {"alertmanagers": [_discovered_alertmanager()]},
        "scrape_configs": [federate],
    }
