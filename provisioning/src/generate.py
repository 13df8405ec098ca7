"""Every provisioned file, as it should be."""

from collections.abc import Mapping
from pathlib import Path

from infra.phases import PHASES
from provisioning.src import alertmanager, collector, grafana, prometheus, stores


def committed() -> Mapping[Path, str]:
    """The files of all phases."""
    return {
        path: text
        for phase in PHASES.values()
        for part in (prometheus.files, alertmanager.files, grafana.files, stores.files, collector.files)
        for path, text in part(phase).items()
    }


def links() -> Mapping[Path, Path]:
    """The boards of all phases: links and the files they lead to."""
    return {link: target for phase in PHASES.values() for link, target in grafana.boards(phase).items()}
