"""Alertmanager on one machine: it groups alerts and shows them, and tells nobody.

Whom it tells in a cluster is in alerts/alertmanager.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.phases import Compute, Phase
from provisioning.src.files import ROOM, text

FOLDER: Final = ROOM / "alertmanager"


def files(phase: Phase) -> Mapping[Path, str]:
    """The file of a phase on one machine; a cluster's are not here."""
    if phase.fleet.compute is not Compute.INSTANCE:
        return {}
    shown = {
        "route": {"receiver": "shown", "group_by": ["alertname", "phase"], "group_wait": "10s"},
        "receivers": [{"name": "shown"}],
    }
    return {FOLDER / phase.name.value / "alertmanager.yaml": text(shown)}
