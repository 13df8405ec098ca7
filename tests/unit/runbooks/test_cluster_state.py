"""What a stage tells Prometheus in the place of exporters is what those say, of what the API server has."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from runbooks.drill.stages.state import XID, cards, certificates, workloads
from tests.support import promql

READY = {"conditions": [{"type": "Ready", "status": "True"}]}
SAMPLE = re.compile(r"([\w:]+)\{(.*)\} (\S+)")
OBJECTS: Mapping[str, Sequence[dict[str, Any]]] = {
    "/apis/apps/v1/deployments": [
        {
            "metadata": {"namespace": "trellis", "name": "api-green"},
            "spec": {"replicas": 10},
            "status": {"availableReplicas": 7, "updatedReplicas": 10},
        }
    ],
    "/apis/autoscaling/v2/horizontalpodautoscalers": [
        {
            "metadata": {"namespace": "trellis", "name": "api-green"},
            "spec": {"minReplicas": 10, "maxReplicas": 30},
            "status": {"currentReplicas": 10},
        }
    ],
    "/api/v1/nodes": [{"metadata": {"name": "a"}, "spec": {"unschedulable": True}, "status": READY}],
    "/api/v1/nodes?labelSelector=gpu": [{"metadata": {"name": "a", "annotations": {XID: "79"}}}],
    "/api/v1/pods": [
        {
            "metadata": {"namespace": "trellis", "name": "api-green-1"},
            "spec": {"nodeName": "a"},
            "status": {"phase": "Running", **READY},
        }
    ],
    "/apis/cert-manager.io/v1/certificates": [
        {
            "metadata": {"namespace": "trellis", "name": "trellis-tls"},
            "status": {"conditions": [], "notAfter": "2026-01-02T03:04:05Z"},
        }
    ],
}


class Server:
    """Answers lists as the API server does."""

    def items(self, path: str) -> Sequence[dict[str, Any]]:
        return OBJECTS[path]


@pytest.fixture(scope="module")
def said() -> Mapping[str, float]:
    api: Any = Server()
    lines = [*workloads(api), *certificates(api), *cards(api, "gpu")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_every_series_is_one_of_the_exporters_with_labels_that_it_has(said: Mapping[str, float]) -> None:
    known = promql.known()
    for series in said:
        found = SAMPLE.fullmatch(f"{series} 0")
        assert found is not None, series
        labels = set(re.findall(r'(\w+)="', found[2]))
        assert labels <= known[found[1]].labels, series


def test_a_release_that_is_short_of_pods_shows(said: Mapping[str, float]) -> None:
    of = '{namespace="trellis",deployment="api-green"}'
    assert said[f"kube_deployment_spec_replicas{of}"] == 10
    assert said[f"kube_deployment_status_replicas_available{of}"] == 7


def test_a_cordoned_node_a_card_and_a_certificate_show(said: Mapping[str, float]) -> None:
    assert said['kube_node_spec_unschedulable{node="a"}'] == 1
    assert said['DCGM_FI_DEV_XID_ERRORS{node="a",gpu="0",err_code="79"}'] == 79
    ready = 'certmanager_certificate_ready_status{namespace="trellis",name="trellis-tls",condition="True"}'
    assert said[ready] == 0
    ends = 'certmanager_certificate_expiration_timestamp_seconds{namespace="trellis",name="trellis-tls"}'
    assert said[ends] == 1767323045
