"""Grafana's provisioning folder for each phase: where the data is, how one leads to the other, and the phase's boards.

`TRELLIS_BOARDS` of Grafana's environment is the folder of the boards: `boards` beside these files, or where a cluster
mounts them. A dollar sign that Grafana must see is written twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dashboards.generate import OUT
from dashboards.src.catalogue import used
from infra.phases import Compute, Phase
from provisioning.src.files import ROOM, Document, text

FOLDER: Final = ROOM / "grafana"
_SHIFT: Final = "10m"
"""Logs of a trace are looked for this much before and after it."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Addresses of what Grafana asks. `every_region`: a Prometheus over all regions, where there are several."""

    prometheus: str
    loki: str
    tempo: str
    alertmanager: str
    every_region: str | None = None


def _sources(phase: Phase) -> Sources:
    if phase.fleet.compute is Compute.INSTANCE:
        here = "http://127.0.0.1"
        return Sources(f"{here}:9090", f"{here}:3100", f"{here}:3200", f"{here}:9093")
    several = "http://prometheus-global:9090" if len(phase.fleet.regions) > 1 else None
    return Sources(
        "http://prometheus:9090", "http://loki:3100", "http://tempo:3200", "http://alertmanager:9093", several
    )


def files(phase: Phase) -> Mapping[Path, str]:
    """The two files of a phase."""
    folder = FOLDER / phase.name.value
    return {
        folder / "datasources" / "trellis.yaml": text(_datasources(_sources(phase))),
        folder / "dashboards" / "trellis.yaml": text(_provider()),
    }


def boards(phase: Phase) -> Mapping[Path, Path]:
    """The links of a phase's `boards` folder and the files of `dashboards/out` that they lead to."""
    folder = FOLDER / phase.name.value / "boards"
    return {folder / f"{uid}.json": OUT / f"{uid}.json" for uid in used(phase)}


def _provider() -> Document:
    provider = {
        "name": "trellis",
        "folder": "Trellis",
        "folderUid": "trellis",
        "type": "file",
        "disableDeletion": True,
        "allowUiUpdates": False,
        "updateIntervalSeconds": 60,
        "options": {"path": "$TRELLIS_BOARDS"},
    }
    return {"apiVersion": 1, "providers": [provider]}


def _datasources(at: Sources) -> Document:
    found = [
        _prometheus("prometheus", "Prometheus", at.prometheus, default=True),
        _source("loki", "Loki", "loki", at.loki, {"derivedFields": _TO_TRACES}),
        _source("tempo", "Tempo", "tempo", at.tempo, {"tracesToLogsV2": _TO_LOGS, "nodeGraph": {"enabled": True}}),
        _source("alertmanager", "Alertmanager", "alertmanager", at.alertmanager, {"implementation": "prometheus"}),
    ]
    if at.every_region:
        found.append(_prometheus("prometheus-global", "Prometheus, all regions", at.every_region))
    return {"apiVersion": 1, "prune": True, "datasources": found}


def _source(uid: str, name: str, kind: str, url: str, data: Document, default: bool = False) -> Document:
    return {
        "uid": uid,
        "name": name,
        "type": kind,
        "access": "proxy",
        "url": url,
        "isDefault": default,
        "editable": False,
        "jsonData": data,
    }


def _prometheus(uid: str, name: str, url: str, default: bool = False) -> Document:
    data = {
        "httpMethod": "POST",
        "prometheusType": "Prometheus",
        "timeInterval": "15s",
        "exemplarTraceIdDestinations": [
            {"name": "trace_id", "datasourceUid": "tempo", "urlDisplayLabel": "Open the trace"}
        ],
    }
    return _source(uid, name, "prometheus", url, data, default)


# Lines that came by OTLP hold the trace as structured metadata, lines of standard output as JSON.
_TO_TRACES: Final[list[Document]] = [
    {
        "name": f"Trace ({where})",
        "matcherType": kind,
        "matcherRegex": pattern,
        "url": "$${__value.raw}",
        "datasourceUid": "tempo",
        "urlDisplayLabel": "Open the trace",
    }
    for where, kind, pattern in (
        ("metadata", "label", "trace_id"),
        ("line", "regex", r'"trace_id":\s*"([0-9a-f]{32})"'),
    )
]
_TO_LOGS: Final[Document] = {
    "datasourceUid": "loki",
    "spanStartTimeShift": f"-{_SHIFT}",
    "spanEndTimeShift": _SHIFT,
    "customQuery": True,
    "tags": [{"key": "service.name", "value": "service_name"}],
    # Of a line that is no JSON the parser keeps the metadata.
    "query": '{$${__tags}} | json | trace_id = "$${__trace.traceId}"',
}
