"""Prometheus with this repository's rules: two that ask the same where one may not be missed."""

from typing import Final

from infra.kubernetes.mounted import Mounted, from_secret, read, token
from infra.kubernetes.part import Part
from infra.kubernetes.pods import TELEMETRY, scratch, value
from infra.kubernetes.process import Process, stateful_set
from infra.kubernetes.rights import SEEN, reads
from infra.kubernetes.watching import Watching
from infra.phases import Pod
from infra.settings import Stack
from infra.versions import PROMETHEUS

PORT: Final = 9090
RETENTION: Final = "36d"
"""An SLO looks back 30 days, and a rule of a week may look at the one before."""
FILES: Final = "/etc/trellis"
"""The configuration names the rules relative to itself, as in this repository."""
_FULL: Final = 0.85
"""Of its disk before the oldest goes: what is being written needs the rest."""


UID: Final = 65534


def flags(config: str, gib: int) -> list[str]:
    """Where its file and its data are, on a disk of that size."""
    return [
        f"--config.file={config}",
        "--storage.tsdb.path=/prometheus",
        f"--storage.tsdb.retention.time={RETENTION}",
        f"--storage.tsdb.retention.size={int(gib * _FULL)}GB",
    ]


class Prometheus(Part):
    """Finds its targets by labels of pods (`provisioning/src/prometheus.py`)."""

    def __init__(self, stack: Stack, watching: Watching, parent: Part) -> None:
        super().__init__("Prometheus", stack, parent.child())
        phase = watching.phase.name.value
        pod, gib = (Pod(500, 3072), 100) if watching.replicated else (Pod(200, 1024), 30)
        config = Mounted(
            "prometheus",
            TELEMETRY,
            "config",
            {"prometheus.yaml": read(f"provisioning/prometheus/{phase}/prometheus.yaml")["prometheus.yaml"]},
            self.child(),
        )
        rules = Mounted("rules", TELEMETRY, "config", read(f"alerts/rules/{phase}/*.yaml"), self.child())
        key, key_mount = from_secret(
            "qdrant", watching.backends.secrets.vectors, {"vectors_read_key": "qdrant"}, "/etc/prometheus/secrets"
        )
        api, api_mount = token()
        volumes, mounts = scratch(("tmp", "/tmp", "64Mi"))  # noqa: S108 - the container's own
        process = Process(
            name="prometheus",
            job="prometheus",
            component="metrics",
            image=PROMETHEUS,
            uid=UID,
            pod=pod,
            ports={"http": PORT},
            probed=PORT,
            ready="/-/ready",
            alive="/-/healthy",
            zones=watching.backends.zones,
            replicas=2 if watching.replicated else 1,
            grace_s=120,
            env=[value("TRELLIS_REGION", watching.region)],
            args=[
                *flags(f"{FILES}/provisioning/prometheus/{phase}/prometheus.yaml", gib),
                "--web.enable-otlp-receiver",
                "--enable-feature=exemplar-storage",
            ],
            volumes=[config.volume, rules.volume, key, api, *volumes],
            mounts=[
                config.at(f"{FILES}/provisioning/prometheus/{phase}"),
                rules.at(f"{FILES}/alerts/rules/{phase}"),
                key_mount,
                api_mount,
                *mounts,
            ],
        )
        rights = reads(self, "prometheus", [("", ("pods", "nodes"), SEEN), ("", ("nodes/metrics",), ("get",))])
        stateful_set(
            self,
            process,
            watching.disk("/prometheus", gib),
            after=[rights],
            lasting=watching.backends.lasting,
        )
        self.register_outputs({})
