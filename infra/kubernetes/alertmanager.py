"""Alertmanager: several that agree among themselves on who tells, so that people hear of a thing once."""

from typing import Final

from infra.kubernetes.mounted import Mounted, from_secret, read
from infra.kubernetes.part import Part
from infra.kubernetes.pods import TELEMETRY, own
from infra.kubernetes.process import Process, stateful_set
from infra.kubernetes.watching import Watching
from infra.phases import Pod
from infra.secrets import TOLD_BY
from infra.settings import Stack
from infra.versions import ALERTMANAGER

PORT: Final = 9093
GOSSIP: Final = 9094


class Alertmanager(Part):
    """As `alerts/alertmanager` says. A key that is not in the Secret is a notification that fails, and is told of."""

    def __init__(self, stack: Stack, watching: Watching, parent: Part) -> None:
        super().__init__("Alertmanager", stack, parent.child())
        replicas = 3 if watching.replicated else 2
        config = Mounted("alertmanager", TELEMETRY, "config", read("alerts/alertmanager/*"), self.child())
        keys, keys_mount = from_secret(
            "keys", watching.secret, {name: name for name in TOLD_BY}, "/etc/alertmanager/secrets", optional=True
        )
        process = Process(
            name="alertmanager",
            job="alertmanager",
            component="alerts",
            image=ALERTMANAGER,
            uid=65534,
            pod=Pod(20, 96),
            ports={"http": PORT, "gossip": GOSSIP},
            probed=PORT,
            ready="/-/ready",
            alive="/-/healthy",
            zones=watching.backends.zones,
            replicas=replicas,
            env=[own("POD_IP", "status.podIP")],
            args=[
                "--config.file=/etc/alertmanager/config/alertmanager.yaml",
                "--storage.path=/alertmanager",
                "--cluster.advertise-address=$(POD_IP):9094",
                *(f"--cluster.peer=alertmanager-{n}.alertmanager-headless:{GOSSIP}" for n in range(replicas)),
            ],
            volumes=[config.volume, keys],
            mounts=[config.at("/etc/alertmanager/config"), keys_mount],
        )
        stateful_set(self, process, watching.disk("/alertmanager", 1), lasting=watching.backends.lasting)
        self.register_outputs({})
