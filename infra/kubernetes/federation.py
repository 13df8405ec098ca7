"""The Prometheus above all regions: one in each of them, so that whichever is left sees them all."""

from typing import Final

import pulumi

from infra.kubernetes import prometheus
from infra.kubernetes.ingress import binding
from infra.kubernetes.mounted import Mounted, read, token
from infra.kubernetes.part import Part
from infra.kubernetes.pods import TELEMETRY, labels, metadata, scratch
from infra.kubernetes.process import Process, stateful_set
from infra.kubernetes.rights import SEEN, reads
from infra.kubernetes.watching import Watching
from infra.phases import Pod
from infra.settings import Stack
from infra.versions import PROMETHEUS

NAME: Final = "prometheus-global"
"""Grafana's data source of all regions leads to a Service of this name."""
_GIB: Final = 20
"""A few hundred recorded series a region, for as long as an SLO looks back."""
_POD: Final = Pod(100, 768)


class Federation(Part):
    """Takes what each region's rules recorded, and raises the alerts that no single region can.

    It is found as a Prometheus like the others, by the region's own, which says when it is away.
    """

    def __init__(self, stack: Stack, watching: Watching, target_group: pulumi.Input[str], parent: Part) -> None:
        super().__init__("Federation", stack, parent.child())
        named = metadata("prometheus", TELEMETRY, labels("prometheus", "federation"))
        binding("prometheus", named, prometheus.PORT, target_group, self.child())
        phase = watching.phase.name.value
        place = f"provisioning/prometheus/{phase}"
        config = Mounted(
            NAME, TELEMETRY, "config", {"global.yaml": read(f"{place}/global.yaml")["global.yaml"]}, self.child()
        )
        rules = Mounted("rules-global", TELEMETRY, "config", read(f"alerts/rules/{phase}-global/*.yaml"), self.child())
        api, api_mount = token()
        volumes, mounts = scratch(("tmp", "/tmp", "64Mi"))  # noqa: S108 - the container's own
        process = Process(
            name=NAME,
            job="prometheus",
            component="federation",
            image=PROMETHEUS,
            uid=prometheus.UID,
            pod=_POD,
            ports={"http": prometheus.PORT},
            probed=prometheus.PORT,
            ready="/-/ready",
            alive="/-/healthy",
            zones=watching.backends.zones,
            grace_s=120,
            args=prometheus.flags(f"{prometheus.FILES}/{place}/global.yaml", _GIB),
            volumes=[config.volume, rules.volume, api, *volumes],
            mounts=[
                config.at(f"{prometheus.FILES}/{place}"),
                rules.at(f"{prometheus.FILES}/alerts/rules/{phase}-global"),
                api_mount,
                *mounts,
            ],
        )
        rights = reads(self, NAME, [("", ("pods",), SEEN)])
        stateful_set(
            self, process, watching.disk("/prometheus", _GIB), after=[rights], lasting=watching.backends.lasting
        )
        self.register_outputs({})
