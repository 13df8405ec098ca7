"""What kube-state-metrics, cert-manager and dcgm-exporter would tell Prometheus, read from a live API server.

Those programs cannot run here. The names, labels and meanings are theirs (tests/data/expositions), each value is what
the API server says at the moment of the scrape; so the phase's own rules and the pages' queries see a cluster.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from tests.support.kubernetes import Kubernetes, Object, is_ready

XID: Final = "drill.trellis.dev/xid"
"""An annotation of nodes: the XID error that the node's card reports."""
JOB: Final = "kube-state-metrics"
_STATES: Final = ("Pending", "Running", "Succeeded", "Failed")
Source = Callable[[], Iterable[str]]


@contextmanager
def exposed(*sources: Source) -> Iterator[int]:
    """The port of this machine where Prometheus finds what the sources say, a line a sample."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = "".join(f"{line}\n" for source in sources for line in source()).encode()
            # A scrape that took too long is given up by Prometheus.
            with suppress(ConnectionError):
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: Prometheus asks each second."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sample(name: str, value: float, /, **labels: str) -> str:
    """In Prometheus' text format. Values of labels here have nothing to escape."""
    told = ",".join(f'{key}="{label}"' for key, label in labels.items())
    return f"{name}{{{told}}} {value:.15g}"


def workloads(api: Kubernetes) -> Iterator[str]:
    """kube-state-metrics: Deployments, what scales them, nodes and pods."""
    for one in api.items("/apis/apps/v1/deployments"):
        status, where = one.get("status", {}), _where(one, "deployment")
        yield sample("kube_deployment_spec_replicas", one["spec"]["replicas"], **where)
        yield sample("kube_deployment_status_replicas_available", status.get("availableReplicas", 0), **where)
        yield sample("kube_deployment_status_replicas_updated", status.get("updatedReplicas", 0), **where)
    for one in api.items("/apis/autoscaling/v2/horizontalpodautoscalers"):
        spec, status, where = one["spec"], one.get("status", {}), _where(one, "horizontalpodautoscaler")
        yield sample("kube_horizontalpodautoscaler_spec_min_replicas", spec["minReplicas"], **where)
        yield sample("kube_horizontalpodautoscaler_spec_max_replicas", spec["maxReplicas"], **where)
        current = status.get("currentReplicas", 0)
        yield sample("kube_horizontalpodautoscaler_status_current_replicas", current, **where)
    yield from _nodes(api)
    yield from _pods(api)


def _nodes(api: Kubernetes) -> Iterator[str]:
    for one in api.items("/api/v1/nodes"):
        name, ready = one["metadata"]["name"], is_ready(one)
        yield sample("kube_node_spec_unschedulable", bool(one["spec"].get("unschedulable")), node=name)
        for status, value in (("true", ready), ("false", not ready)):
            yield sample("kube_node_status_condition", value, node=name, condition="Ready", status=status)


def _pods(api: Kubernetes) -> Iterator[str]:
    for one in api.items("/api/v1/pods"):
        where, ready = _where(one, "pod"), is_ready(one)
        yield sample("kube_pod_info", 1, **where, node=one["spec"].get("nodeName", ""))
        for state in _STATES:
            yield sample("kube_pod_status_phase", one["status"]["phase"] == state, **where, phase=state)
        for condition, value in (("true", ready), ("false", not ready)):
            yield sample("kube_pod_status_ready", value, **where, condition=condition)


def certificates(api: Kubernetes) -> Iterator[str]:
    """cert-manager: each certificate's readiness and end."""
    for one in api.items("/apis/cert-manager.io/v1/certificates"):
        where, ready = _where(one, "name"), is_ready(one)
        for condition, value in (("True", ready), ("False", not ready)):
            yield sample("certmanager_certificate_ready_status", value, **where, condition=condition)
        ends = one.get("status", {}).get("notAfter")
        if ends:
            at = datetime.fromisoformat(ends).timestamp()
            yield sample("certmanager_certificate_expiration_timestamp_seconds", at, **where)


def cards(api: Kubernetes, label: str) -> Iterator[str]:
    """dcgm-exporter: of each node with the label (a selector), its card's last XID error."""
    for one in api.items(f"/api/v1/nodes?labelSelector={label}"):
        code = one["metadata"].get("annotations", {}).get(XID, "0")
        yield sample("DCGM_FI_DEV_XID_ERRORS", float(code), node=one["metadata"]["name"], gpu="0", err_code=code)


def _where(one: Object, kind: str) -> Mapping[str, str]:
    return {"namespace": one["metadata"]["namespace"], kind: one["metadata"]["name"]}
