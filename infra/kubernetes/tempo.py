"""Traces: one Tempo, whose blocks are on its volume or in S3."""

from typing import Final

from infra.kubernetes.loki import kept
from infra.kubernetes.mounted import Mounted
from infra.kubernetes.part import Part
from infra.kubernetes.pods import TELEMETRY, scratch
from infra.kubernetes.process import Process, stateful_set
from infra.kubernetes.watching import Watching
from infra.phases import Pod
from infra.service_accounts import TEMPO as ACCOUNT
from infra.settings import Stack
from infra.versions import TEMPO

PORT: Final = 3200
OTLP_HTTP: Final = 4318


class Tempo(Part):
    """As `provisioning/tempo` says: without Kafka there is one in every phase, and samplers wait while it is away."""

    def __init__(self, stack: Stack, watching: Watching, parent: Part) -> None:
        super().__init__("Tempo", stack, parent.child())
        config = Mounted("tempo", TELEMETRY, "config", watching.config("tempo"), self.child())
        folders, mounts = scratch(("tmp", "/tmp", "256Mi"))  # noqa: S108 - the container's own
        process = Process(
            name=ACCOUNT.name,
            job="tempo",
            component="traces",
            image=TEMPO,
            uid=10001,
            pod=Pod(300, 2048) if watching.shared else Pod(100, 768),
            ports={"http": PORT, "otlp-grpc": 4317, "otlp-http": OTLP_HTTP},
            probed=PORT,
            ready="/ready",
            alive="/status/version",
            zones=watching.backends.zones,
            grace_s=120,
            args=["-config.file=/etc/tempo/tempo.yaml", "-config.expand-env=true"],
            env=kept("TEMPO", watching),
            volumes=[config.volume, *folders],
            mounts=[config.at("/etc/tempo"), *mounts],
        )
        stateful_set(self, process, watching.disk("/var/tempo", 20), lasting=watching.backends.lasting)
        self.register_outputs({})
