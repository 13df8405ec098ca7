"""What Prometheus and Alertmanager are told on this machine: the committed files, with this machine's addresses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from infra.phases import PhaseName

ROOT: Final = Path(__file__).parent.parent.parent
"""Of a clone. An installed app has no `provisioning` there."""
KEPT_DAYS: Final = 15
KEPT_SIZE: Final = "1GB"


@dataclass(frozen=True, slots=True)
class Files:
    """The committed ones of a phase."""

    prometheus: Path
    alertmanager: Path

    def there(self) -> bool:
        return self.prometheus.is_file() and self.alertmanager.is_file()


def committed(phase: PhaseName) -> Files:
    room = ROOT / "provisioning"
    return Files(
        room / "prometheus" / phase.value / "prometheus.yaml", room / "alertmanager" / phase.value / "alertmanager.yaml"
    )


def prometheus(file: Path, targets: Mapping[str, str], region: str) -> Mapping[str, Any]:
    """The committed configuration for what runs here.

    Args:
        targets: job -> address, of what is to be asked; a job that is not here is left out, and nobody is told that it
            is absent.
        region: label of alerts; none where it is empty.
    """
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    jobs = found["scrape_configs"]
    here = [job | _at(targets[job["job_name"]]) for job in jobs if job["job_name"] in targets]
    left_out = [job["job_name"] for job in jobs if job["job_name"] not in targets]
    labels = found["global"]["external_labels"]
    return found | {
        "global": found["global"] | {"external_labels": {**labels, "region": region}},
        "rule_files": [str((file.parent / pattern).resolve()) for pattern in found["rule_files"]],
        "alerting": _alerting(targets.get("alertmanager"), left_out),
        "scrape_configs": here,
    }


def _at(address: str) -> dict[str, Any]:
    return {"static_configs": [{"targets": [address]}]}


def _alerting(alertmanager: str | None, left_out: Sequence[str]) -> Mapping[str, Any]:
    if alertmanager is None:
        return {}
    silent = {
        "source_labels": ["alertname", "job"],
        "regex": f"MetricsAbsent;({'|'.join(left_out)})",
        "action": "drop",
    }
    return {
        "alert_relabel_configs": [silent] if left_out else [],
        "alertmanagers": [_at(alertmanager)],
    }


def prometheus_command(program: str, config: Path, data: Path, address: str) -> list[str]:
    return [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        f"--storage.tsdb.retention.time={KEPT_DAYS}d",
        f"--storage.tsdb.retention.size={KEPT_SIZE}",
        f"--web.listen-address={address}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]


def alertmanager_command(program: str, config: Path, data: Path, address: str) -> list[str]:
    return [
        program,
        f"--config.file={config}",
        f"--storage.path={data}",
        f"--web.listen-address={address}",
        # One alone: it opens no port for others.
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
