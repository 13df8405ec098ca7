"""Small stores in the cluster itself, for a phase on a cluster that has no managed ones: one of each, with a volume."""

from collections.abc import Sequence
from typing import Final

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta

from infra.kubernetes.backends import CACHE_PORT, DATABASE, POSTGRES_PORT, Backends
from infra.kubernetes.part import Part
from infra.kubernetes.pods import (
    CRITICAL,
    DATA,
    account,
    container_port,
    labels,
    locked,
    metadata,
    needs,
    scratch,
    secret,
    selected,
    service,
    tcp_probe,
    unprivileged,
    value,
)
from infra.kubernetes.qdrant import claim, retained
from infra.kubernetes.sizes import POSTGRES, REDIS, REDIS_DISK_GIB, STORE_DISK_GIB
from infra.pools import on_primary, plan
from infra.settings import Stack
from infra.versions import POSTGRES_IMAGE, VALKEY_IMAGE

POSTGRES_NAME: Final = "postgres"
REDIS_NAME: Final = "redis"
_UID: Final = 999
"""Of both images."""
_DATA: Final = "/var/lib/postgresql/data"


class Stores(Part):
    """The StatefulSets and Services `postgres` and `redis`. One each, so that nothing may take one away unasked for:
    a disruption budget could not be kept."""

    def __init__(
        self, stack: Stack, backends: Backends, opts: pulumi.ResourceOptions, *, after: Sequence[pulumi.Resource]
    ) -> None:
        super().__init__("Stores", stack, opts, after=after)
        self._backends = backends
        self._set(POSTGRES_NAME, POSTGRES_PORT, self._postgres(), STORE_DISK_GIB, ("run", "/var/run/postgresql", "1Mi"))
        self._set(REDIS_NAME, CACHE_PORT, self._redis(), REDIS_DISK_GIB)
        self.register_outputs({})

    def _set(
        self, name: str, port: int, container: core.ContainerArgs, disk_gib: int, *written: tuple[str, str, str]
    ) -> None:
        folders = (("tmp", "/tmp", "64Mi"), *written)  # noqa: S108 - the container's own
        volumes, mounted = scratch(*folders)
        container.volume_mounts = [
            core.VolumeMountArgs(name="data", mount_path=_DATA if name == POSTGRES_NAME else "/data"),
            *mounted,
        ]
        selector = selected(name)
        account(name, DATA, "store", self.child())
        service(name, DATA, "store", selector, [(name, port)], self.child())
        apps.StatefulSet(
            name,
            metadata=metadata(name, DATA, labels(name, "store")),
            spec=apps.StatefulSetSpecArgs(
                service_name=name,
                replicas=1,
                selector=meta.LabelSelectorArgs(match_labels=selector),
                persistent_volume_claim_retention_policy=retained(),
                template=core.PodTemplateSpecArgs(
                    metadata=meta.ObjectMetaArgs(labels=labels(name, "store")),
                    spec=core.PodSpecArgs(
                        service_account_name=name,
                        automount_service_account_token=False,
                        enable_service_links=False,
                        priority_class_name=CRITICAL,
                        termination_grace_period_seconds=60,
                        security_context=unprivileged(_UID),
                        containers=[container],
                        volumes=volumes,
                    ),
                ),
                volume_claim_templates=[claim("data", disk_gib, self._backends.storage_class)],
            ),
            opts=self.child(),
        )

    def _postgres(self) -> core.ContainerArgs:
        name, phase = self._backends.secrets.owner, self.stack.phase
        # A superuser of an empty cluster of databases, as RDS's master is: the app has a login of its own.
        most = on_primary(phase, plan(phase))
        return core.ContainerArgs(
            name=POSTGRES_NAME,
            image=POSTGRES_IMAGE.reference,
            image_pull_policy="IfNotPresent",
            args=["-c", f"max_connections={most}", "-c", "password_encryption=scram-sha-256"],
            env=[
                value("PGDATA", f"{_DATA}/pgdata"),
                value("POSTGRES_DB", DATABASE),
                value("POSTGRES_INITDB_ARGS", "--auth-host=scram-sha-256 --auth-local=scram-sha-256"),
                secret("POSTGRES_USER", name, "owner_user"),
                secret("POSTGRES_PASSWORD", name, "owner_password"),
            ],
            ports=[container_port("postgres", POSTGRES_PORT)],
            resources=needs(POSTGRES),
            security_context=locked(),
            startup_probe=tcp_probe(POSTGRES_PORT, every_s=2, failures=60),
            liveness_probe=tcp_probe(POSTGRES_PORT),
            readiness_probe=tcp_probe(POSTGRES_PORT, every_s=5, failures=2),
        )

    def _redis(self) -> core.ContainerArgs:
        return core.ContainerArgs(
            name=REDIS_NAME,
            image=VALKEY_IMAGE.reference,
            image_pull_policy="IfNotPresent",
            command=["valkey-server"],
            args=[
                "--requirepass",
                "$(CACHE_PASSWORD)",
                "--appendonly",
                "yes",
                "--dir",
                "/data",
                "--maxmemory",
                f"{REDIS.memory * 2 // 3}mb",
                "--maxmemory-policy",
                # What is kept without an end (limits, marks) is not ours to lose.
                "volatile-lru",
            ],
            env=[secret("CACHE_PASSWORD", self._backends.secrets.cache, "cache_password")],
            ports=[container_port("redis", CACHE_PORT)],
            resources=needs(REDIS),
            security_context=locked(),
            startup_probe=tcp_probe(CACHE_PORT, every_s=2, failures=30),
            liveness_probe=tcp_probe(CACHE_PORT),
            readiness_probe=tcp_probe(CACHE_PORT, every_s=5, failures=2),
        )
