"""Grafana with this repository's boards. All of it is files: its own database may be lost with the pod.

It has no way in from outside: `kubectl port-forward` leads to it, and who may do that, the cluster says.
"""

from typing import Final

from infra.kubernetes.mounted import Mounted, read
from infra.kubernetes.part import Part
from infra.kubernetes.pods import TELEMETRY, scratch, secret, value
from infra.kubernetes.process import Process, deployment
from infra.kubernetes.watching import Watching
from infra.phases import Pod
from infra.settings import Stack
from infra.versions import GRAFANA

PORT: Final = 3000
_PROVISIONING: Final = "/etc/grafana/provisioning"
_BOARDS: Final = "/etc/grafana/boards"
_SAID: Final = {
    "GF_PATHS_PROVISIONING": _PROVISIONING,
    "TRELLIS_BOARDS": _BOARDS,
    "GF_LOG_MODE": "console",
    "GF_USERS_ALLOW_SIGN_UP": "false",
    "GF_SECURITY_DISABLE_GRAVATAR": "true",
    # It would otherwise fetch plugins and look for news at each start.
    "GF_PLUGINS_PREINSTALL_DISABLED": "true",
    "GF_ANALYTICS_REPORTING_ENABLED": "false",
    "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
}


class Grafana(Part):
    """One, in every phase: nobody is told by it, and a new one is there in seconds."""

    def __init__(self, stack: Stack, watching: Watching, parent: Part) -> None:
        super().__init__("Grafana", stack, parent.child())
        room = f"provisioning/grafana/{watching.phase.name.value}"
        sources, providers, boards = (
            Mounted(f"grafana-{name}", TELEMETRY, "config", read(f"{room}/{pattern}"), self.child())
            for name, pattern in (
                ("datasources", "datasources/*.yaml"),
                ("dashboards", "dashboards/*.yaml"),
                ("boards", "boards/*.json"),
            )
        )
        folders, mounts = scratch(("data", "/var/lib/grafana", "1Gi"), ("tmp", "/tmp", "64Mi"))  # noqa: S108
        process = Process(
            name="grafana",
            job="grafana",
            component="dashboards",
            image=GRAFANA,
            uid=472,
            pod=Pod(100, 384),
            ports={"http": PORT},
            probed=PORT,
            ready="/api/health",
            alive="/api/health",
            zones=watching.backends.zones,
            env=[
                *(value(name, text) for name, text in _SAID.items()),
                secret("GF_SECURITY_ADMIN_PASSWORD", watching.secret, "grafana_password"),
            ],
            volumes=[sources.volume, providers.volume, boards.volume, *folders],
            mounts=[
                sources.at(f"{_PROVISIONING}/datasources"),
                providers.at(f"{_PROVISIONING}/dashboards"),
                boards.at(_BOARDS),
                *mounts,
            ],
        )
        deployment(self, process)
        self.register_outputs({})
