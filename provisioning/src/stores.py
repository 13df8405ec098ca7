"""Loki and Tempo for each phase: one process that keeps files, and what a larger phase lays over that.

Names of buckets and regions come from the environment (`-config.expand-env=true`); access to S3 comes from the pod's
role, so there is no key. Written for Loki 3 and Tempo 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.phases import Compute, Phase
from provisioning.src.files import ROOM, Document, text

LOKI, TEMPO = ROOM / "loki", ROOM / "tempo"
COPIES: Final = 3
"""Of what is not yet in S3, where several processes share the work: one may go without loss."""
_SCHEMA_SINCE: Final = "2026-01-01"


@dataclass(frozen=True, slots=True)
class Kept:
    """How long, in hours. Traces are many and are read soon after an alert; logs also serve an audit of a month."""

    logs_h: int
    traces_h: int


def kept(phase: Phase) -> Kept:
    """By what the phase pays: a machine's disk, a volume of a pod, S3."""
    if phase.fleet.compute is Compute.INSTANCE:
        return Kept(logs_h=7 * 24, traces_h=3 * 24)
    return Kept(logs_h=30 * 24, traces_h=14 * 24) if _shared(phase) else Kept(logs_h=14 * 24, traces_h=7 * 24)


def _shared(phase: Phase) -> bool:
    """Whether one process is too few: from ten API pods on."""
    return phase.fleet.least >= 10


def files(phase: Phase) -> Mapping[Path, str]:
    """The two files of a phase."""
    loki, tempo = _loki(phase), _tempo(phase)
    if _shared(phase):
        loki, tempo = laid_over(loki, _LOKI_SHARED), laid_over(tempo, _TEMPO_SHARED)
    name = phase.name.value
    return {LOKI / name / "loki.yaml": text(loki), TEMPO / name / "tempo.yaml": text(tempo)}


def laid_over(base: Document, overlay: Document) -> Document:
    """`base` with the overlay's values; mappings are merged, anything else is replaced, None takes a key away."""
    merged = {
        key: laid_over(base[key], value) if isinstance(value, Mapping) and isinstance(base.get(key), Mapping) else value
        for key, value in overlay.items()
    }
    return {key: value for key, value in {**base, **merged}.items() if value is not None}


def _listen(phase: Phase) -> str:
    return "127.0.0.1" if phase.fleet.compute is Compute.INSTANCE else "0.0.0.0"  # noqa: S104 - pods are asked by others


def _server(phase: Phase, http: int, grpc: int) -> Document:
    address = _listen(phase)
    return {
        "http_listen_address": address,
        "http_listen_port": http,
        "grpc_listen_address": address,
        "grpc_listen_port": grpc,
    }


def _loki(phase: Phase) -> Document:
    folder = _folder(phase, "loki")
    return {
        # One tenant: who may read logs may read all of a region's.
        "auth_enabled": False,
        "server": _server(phase, 3100, 9096),
        "common": {
            "path_prefix": folder,
            "replication_factor": 1,
            "ring": {"kvstore": {"store": "inmemory"}, "instance_addr": "127.0.0.1"},
            "storage": {"filesystem": {"chunks_directory": f"{folder}/chunks", "rules_directory": f"{folder}/rules"}},
        },
        "schema_config": {"configs": [_loki_schema("filesystem")]},
        "limits_config": {
            "retention_period": f"{kept(phase).logs_h}h",
            "allow_structured_metadata": True,
            "reject_old_samples_max_age": "168h",
            "max_query_series": 5_000,
        },
        "compactor": {
            "working_directory": f"{folder}/compactor",
            "retention_enabled": True,
            "delete_request_store": "filesystem",
        },
        "analytics": {"reporting_enabled": False},
    }


def _folder(phase: Phase, name: str) -> str:
    """On a person's machine a folder of theirs, in a pod its volume."""
    return f"${{TRELLIS_HOME}}/{name}" if phase.fleet.compute is Compute.INSTANCE else f"/var/{name}"


def _loki_schema(store: str) -> Document:
    return {
        "from": _SCHEMA_SINCE,
        "store": "tsdb",
        "object_store": store,
        "schema": "v13",
        "index": {"prefix": "index_", "period": "24h"},
    }


def _members(service: str) -> Document:
    """Processes find each other by the addresses of a headless service; the port is memberlist's own."""
    return {"join_members": [f"dnssrv+_memberlist._tcp.{service}.${{NAMESPACE}}.svc.cluster.local"]}


_LOKI_SHARED: Final[Document] = {
    "common": {
        "replication_factor": COPIES,
        "ring": {"kvstore": {"store": "memberlist"}, "instance_addr": "${POD_IP}"},
        "storage": {"filesystem": None, "s3": {"bucketnames": "${LOKI_BUCKET}", "region": "${AWS_REGION}"}},
    },
    "memberlist": _members("loki-headless"),
    "schema_config": {"configs": [_loki_schema("s3")]},
    "compactor": {"delete_request_store": "s3"},
    "ingester": {"wal": {"enabled": True, "dir": "/var/loki/wal"}},
}


def _tempo(phase: Phase) -> Document:
    """One process in every phase: without Kafka it takes 55,000 spans a second, and samplers send it a few hundred."""
    folder, address, retention = _folder(phase, "tempo"), _listen(phase), f"{kept(phase).traces_h}h"
    # On one machine 4317 and 4318 are the collector's.
    grpc, http = (14317, 14318) if phase.fleet.compute is Compute.INSTANCE else (4317, 4318)
    otlp = {"grpc": {"endpoint": f"{address}:{grpc}"}, "http": {"endpoint": f"{address}:{http}"}}
    return {
        "server": _server(phase, 3200, 9095),
        "memberlist": {"bind_addr": [address]},
        "distributor": {"receivers": {"otlp": {"protocols": otlp}}},
        "live_store": {"wal": {"path": f"{folder}/live/wal"}, "shutdown_marker_dir": f"{folder}/live/marker"},
        "backend_scheduler": {
            "local_work_path": f"{folder}/scheduler",
            "provider": {"compaction": {"compaction": {"block_retention": retention}}},
        },
        "backend_worker": {"backend_scheduler_addr": "127.0.0.1:9095", "compaction": {"block_retention": retention}},
        "storage": {
            "trace": {"backend": "local", "wal": {"path": f"{folder}/wal"}, "local": {"path": f"{folder}/blocks"}},
        },
        "usage_report": {"reporting_enabled": False},
    }


_TEMPO_SHARED: Final[Document] = {
    "storage": {
        "trace": {
            "backend": "s3",
            "local": None,
            "s3": {
                "bucket": "${TEMPO_BUCKET}",
                "region": "${AWS_REGION}",
                "endpoint": "s3.${AWS_REGION}.amazonaws.com",
            },
        }
    },
}
