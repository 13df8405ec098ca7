"""Logs: one Loki with a volume, or three that share the work and keep it in S3."""

from typing import Final

from pulumi_kubernetes.core import v1 as core

from infra.kubernetes.mounted import Mounted
from infra.kubernetes.part import Part
from infra.kubernetes.pods import TELEMETRY, own, scratch, value
from infra.kubernetes.process import Process, stateful_set
from infra.kubernetes.watching import Watching
from infra.phases import Pod
from infra.service_accounts import LOKI as ACCOUNT
from infra.settings import Stack
from infra.versions import LOKI

PORT: Final = 3100
GRPC: Final = 9096
GOSSIP: Final = 7946
COPIES: Final = 3
"""As many processes as its configuration has copies of what is not in S3 yet."""


class Loki(Part):
    """As `provisioning/loki` says; its role in AWS is its service account's."""

    def __init__(self, stack: Stack, watching: Watching, parent: Part) -> None:
        super().__init__("Loki", stack, parent.child())
        config = Mounted("loki", TELEMETRY, "config", watching.config("loki"), self.child())
        folders, mounts = scratch(("tmp", "/tmp", "64Mi"))  # noqa: S108 - the container's own
        process = Process(
            name=ACCOUNT.name,
            job="loki",
            component="logs",
            image=LOKI,
            uid=10001,
            pod=Pod(200, 1024) if watching.shared else Pod(100, 512),
            ports={"http": PORT, "grpc": GRPC, "memberlist": GOSSIP},
            probed=PORT,
            ready="/ready",
            alive="/services",
            zones=watching.backends.zones,
            replicas=COPIES if watching.shared else 1,
            # What is in memory goes to S3 or to the disk first.
            grace_s=300,
            args=["-config.file=/etc/loki/loki.yaml", "-config.expand-env=true"],
            env=[own("POD_IP", "status.podIP"), own("NAMESPACE", "metadata.namespace"), *kept("LOKI", watching)],
            volumes=[config.volume, *folders],
            mounts=[config.at("/etc/loki"), *mounts],
        )
        gib = 10 if watching.shared else 30
        stateful_set(self, process, watching.disk("/var/loki", gib), lasting=watching.backends.lasting)
        self.register_outputs({})


def kept(program: str, watching: Watching) -> list[core.EnvVarArgs]:
    """Variables that say where in S3."""
    if not watching.buckets:
        return []
    return [value(f"{program}_BUCKET", watching.buckets[program]), value("AWS_REGION", watching.region)]
