"""A real Kubernetes control plane on this machine: etcd, API server, controllers, scheduler, metrics, simulated nodes.

Everything listens on loopback and free ports, lives in one folder, and is ended by its process id.
"""

import secrets
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.components import COMPONENTS, missing
from tests.support.kubernetes import Kubernetes
from tests.support.plane_build import Built, build, built
from tests.support.postgres import free_port
from tests.support.processes import ROOT, wait_until

START_TIMEOUT_S: Final = 120.0
READY_DELAY: Final = "tests.trellis.dev/ready-after"
"""An annotation of pods: how long after its start one is ready, as Go writes durations."""
_PREPARED: Final = ROOT / "tests" / "cluster" / "prepared.yaml"
_STAGES: Final = ROOT / "tests" / "cluster" / "stages"
_METRICS_S: Final = 10
_STOP_S: Final = 10.0


@dataclass(frozen=True)
class Plane:
    """`api`: a client that may do anything. `kubeconfig`: the same for programs. `started_s`: how long it took."""

    api: Kubernetes
    kubeconfig: Path
    started_s: float


@dataclass(frozen=True)
class _Ports:
    etcd: int
    peer: int
    api: int
    controllers: int
    scheduler: int
    nodes: int
    metrics: int


class _Parts:
    """Processes of one plane, the last started ended first."""

    def __init__(self, program: Path, folder: Path, stack: ExitStack) -> None:
        self._program, self._folder, self._stack = program, folder, stack
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, part: str, *flags: str) -> None:
        with self._log(part).open("wb") as log:
            process = subprocess.Popen(
                [self._program, part, *flags], cwd=self._folder, stdout=log, stderr=subprocess.STDOUT
            )
        self._running.append((part, process))
        self._stack.callback(_end, process)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Raises RuntimeError with the log of a part that ended by itself."""

        def alive() -> bool:
            for part, process in self._running:
                if process.poll() is not None:
                    raise RuntimeError(f"{part} ended: {self._log(part).read_text()[-2000:]}")
            return holds()

        wait_until(alive, what, START_TIMEOUT_S)

    def _log(self, part: str) -> Path:
        return self._folder / f"{part}.log"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(timeout=_STOP_S)


def program() -> Built:
    """The built plane; the test is skipped, and listed, where there is none and no Go to build it with."""
    found = built()
    if found is not None:
        return found
    go = COMPONENTS["go"].find()
    if go is None:
        missing("go", "the control plane of tests/cluster is built by it")
    assert go is not None
    try:
        return build(go)
    except RuntimeError as error:
        missing("go", f"the control plane of tests/cluster could not be built: {error}")
        raise


@contextmanager
def running_plane(parts: Built, folder: Path) -> Iterator[Plane]:
    """A plane with nothing in it but what Kubernetes makes itself, and a default storage class."""
    began = time.monotonic()
    ports = _Ports(*(free_port() for _ in range(7)))
    token = secrets.token_hex(16)
    (folder / "tokens").write_text(f"{token},tests,tests,system:masters\n")
    _key(folder / "accounts.key")
    with ExitStack() as stack:
        running = _Parts(parts.program, folder, stack)
        running.start("etcd", *_etcd(ports))
        running.start("apiserver", *_apiserver(ports, folder))
        certificate = folder / "certificates" / "apiserver.crt"
        running.until(certificate.exists, "the API server has a certificate")
        api = Kubernetes(_client(stack, ports.api, token, certificate))
        running.until(lambda: _ready(api), "the API server is ready")
        kubeconfig = _kubeconfig(folder, ports.api, token, certificate)
        by = f"--kubeconfig={kubeconfig}"
        running.start("controller-manager", by, *_controllers(ports, folder))
        running.start("scheduler", *_scheduler(ports, folder, kubeconfig))
        running.start("kwok", by, *_nodes(parts, ports, folder))
        running.start("metrics-server", *_metrics(ports, folder, kubeconfig))
        _prepare(api, ports.metrics)
        running.until(lambda: _settled(api), "the default service account is there")
        yield Plane(api, kubeconfig, time.monotonic() - began)


def _etcd(ports: _Ports) -> Sequence[str]:
    client, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.peer}"
    return (
        "--data-dir=etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )


def _apiserver(ports: _Ports, folder: Path) -> Sequence[str]:
    return (
        f"--etcd-servers=http://127.0.0.1:{ports.etcd}",
        f"--secure-port={ports.api}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={folder / 'certificates'}",
        "--endpoint-reconciler-type=none",
        "--authorization-mode=RBAC",
        f"--token-auth-file={folder / 'tokens'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'accounts.key'}",
        f"--service-account-signing-key-file={folder / 'accounts.key'}",
        "--service-cluster-ip-range=10.96.0.0/16",
    )


def _controllers(ports: _Ports, folder: Path) -> Sequence[str]:
    return (
        "--leader-elect=false",
        *_secured(ports.controllers, folder),
        f"--service-account-private-key-file={folder / 'accounts.key'}",
        f"--root-ca-file={folder / 'certificates' / 'apiserver.crt'}",
        "--horizontal-pod-autoscaler-sync-period=1s",
        "--horizontal-pod-autoscaler-initial-readiness-delay=1s",
        "--horizontal-pod-autoscaler-cpu-initialization-period=1s",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    )


def _scheduler(ports: _Ports, folder: Path, kubeconfig: Path) -> Sequence[str]:
    """As it is by default, but a pod that fits nowhere is tried again after one second, not ten."""
    file = folder / "scheduler.yaml"
    content = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig), "qps": 200, "burst": 400},
        "leaderElection": {"leaderElect": False},
        "podInitialBackoffSeconds": 1,
        "podMaxBackoffSeconds": 1,
    }
    file.write_text(yaml.safe_dump(content))
    return f"--config={file}", *_secured(ports.scheduler, folder)


def _secured(port: int, folder: Path) -> Sequence[str]:
    return f"--secure-port={port}", "--bind-address=127.0.0.1", f"--cert-dir={folder / str(port)}"


def _nodes(parts: Built, ports: _Ports, folder: Path) -> Sequence[str]:
    stages = folder / "stages.yaml"
    files = [file for place in (parts.stages, parts.usage, _STAGES) for file in sorted(place.iterdir())]
    found = [yaml.safe_load(file.read_text()) for file in files]
    stages.write_text(yaml.safe_dump_all(map(_delayed, found)))
    return (
        "--manage-all-nodes=true",
        f"--config={stages}",
        "--enable-crds=",
        "--node-ip=127.0.0.1",
        f"--node-port={ports.nodes}",
        f"--server-address=127.0.0.1:{ports.nodes}",
        "--node-lease-duration-seconds=40",
        "--cidr=10.244.0.0/16",
    )


def _delayed(stage: dict[str, object]) -> dict[str, object]:
    """kwok's stages with one change: a pod may take its time until it is ready."""
    if stage["metadata"] == {"name": "pod-ready"}:
        spec = stage["spec"]
        assert isinstance(spec, dict)
        delay = {"durationFrom": {"expressionFrom": f'.metadata.annotations["{READY_DELAY}"]'}}
        return {**stage, "spec": {**spec, "delay": {"durationMilliseconds": 0, **delay}}}
    return stage


def _metrics(ports: _Ports, folder: Path, kubeconfig: Path) -> Sequence[str]:
    return (
        *_secured(ports.metrics, folder),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--kubelet-insecure-tls",
        "--kubelet-use-node-status-port",
        "--kubelet-preferred-address-types=InternalIP",
        f"--metric-resolution={_METRICS_S}s",
        "--kubelet-request-timeout=5s",
    )


def _prepare(api: Kubernetes, port: int) -> None:
    """What an installer would make: the metrics' way through the API server, a default class of volumes."""
    for manifest in yaml.safe_load_all(_PREPARED.read_text().replace("$METRICS_PORT", str(port))):
        api.apply(manifest)


def _settled(api: Kubernetes) -> bool:
    return api.get("/api/v1/namespaces/default/serviceaccounts/default") is not None


def _ready(api: Kubernetes) -> bool:
    try:
        return api.http.get("/readyz").status_code == 200
    except httpx2.TransportError:
        return False


def _client(stack: ExitStack, port: int, token: str, certificate: Path) -> httpx2.Client:
    trust = ssl.create_default_context(cafile=str(certificate))
    return stack.enter_context(
        httpx2.Client(
            base_url=f"https://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}, verify=trust, timeout=60
        )
    )


def _kubeconfig(folder: Path, port: int, token: str, certificate: Path) -> Path:
    file = folder / "kubeconfig"
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(certificate)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tests",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "tests", "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
    }
    file.write_text(yaml.safe_dump(content))
    return file


def _key(file: Path) -> None:
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    file.write_bytes(made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
