"""Where the workloads find their database, cache, vectors, models and secrets: in a region's cell or in the cluster."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pulumi

from infra.kubernetes.pods import DATA, MODELS
from infra.outputs import CellOutputs
from infra.phases import Cache, ModelServer
from infra.settings import Cluster, Stack

DATABASE: Final = "trellis"
POSTGRES_PORT: Final = 5432
CACHE_PORT: Final = 6379
STORAGE_CLASS: Final = "trellis-gp3"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretNames:
    """Secrets by what is in them. They may be one and the same: no key has two meanings (`infra/secrets.py`)."""

    app: str
    owner: str
    login: str
    cache: str
    vectors: str
    telemetry: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backends:
    """Hosts and names. What is None is not there.

    `writer`, `reader`: of PostgreSQL; `tls`: connections to it and to the cache leave the cluster, and are encrypted.
    `cache_scheme`: of its address, as the app reads it. `models`: our own GPU nodes' servers. `network`: the addresses
    of stores outside the cluster; `proxies`: of who forwards users' requests, comma-separated. `snapshots`: the bucket
    of Qdrant's. `zones`: nodes say which zone they are in. `lasting`: its data is kept when the stack goes.
    """

    writer: pulumi.Input[str]
    reader: pulumi.Input[str] | None
    cache: pulumi.Input[str]
    cache_scheme: str
    tls: bool
    models: ModelServer | None
    secrets: SecretNames
    network: pulumi.Input[str] | None
    proxies: pulumi.Input[str] | None
    snapshots: pulumi.Input[str] | None
    storage_class: str | None
    zones: bool
    lasting: bool

    @property
    def in_cluster(self) -> bool:
        """Whether PostgreSQL and Redis are pods of ours."""
        return self.network is None


def of_cell(stack: Stack, cell: CellOutputs) -> Backends:
    """The stores of a region, which its infra stack made."""
    phase = stack.phase
    clustered = phase.stores.cache is Cache.REDIS_CLUSTER
    return Backends(
        writer=cell.database_writer,
        reader=cell.database_reader if phase.stores.read_replicas else None,
        cache=cell.cache_endpoint,
        cache_scheme="rediss+cluster" if clustered else "rediss",
        tls=True,
        models=phase.models,
        secrets=SecretNames(
            app="trellis-app",
            owner="trellis-owner",
            login="trellis-login",
            cache="trellis-cache",
            vectors="trellis-vectors",
            telemetry="trellis-telemetry",
        ),
        network=cell.store_networks,
        proxies=cell.balancer_cidrs,
        snapshots=cell.backup_bucket,
        storage_class=STORAGE_CLASS,
        zones=True,
        lasting=True,
    )


def of_cluster(given: Cluster) -> Backends:
    """Small stores in the cluster itself: one of each, for trying a phase out."""
    return Backends(
        writer=f"postgres.{DATA}",
        reader=None,
        cache=f"redis.{DATA}",
        cache_scheme="redis",
        tls=False,
        models=None,
        secrets=SecretNames(**dict.fromkeys(("app", "owner", "login", "cache", "vectors", "telemetry"), given.secrets)),
        network=None,
        proxies=None,
        snapshots=None,
        storage_class=given.storage_class,
        zones=False,
        lasting=False,
    )


def model_address(backends: Backends) -> Mapping[str, str]:
    """Our own models' settings of the app; none without GPU nodes."""
    if backends.models is None:
        return {}
    return {"TRELLIS_MODEL_URL": f"http://vllm.{MODELS}:8000/v1", "TRELLIS_MODEL_NAME": backends.models.model}
