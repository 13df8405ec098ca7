"""Qdrant: peers with a volume each, which vote; snapshots of all of them to a bucket every night."""

from collections.abc import Sequence
from typing import Final

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.batch import v1 as batch
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta

from infra.kubernetes import environment
from infra.kubernetes.app import UID, container
from infra.kubernetes.backends import Backends
from infra.kubernetes.part import Part
from infra.kubernetes.pods import (
    BATCH,
    CRITICAL,
    DATA,
    account,
    apart,
    budget,
    container_port,
    http_probe,
    labels,
    locked,
    metadata,
    needs,
    own,
    scratch,
    secret,
    selected,
    service,
    spread,
    unprivileged,
    value,
)
from infra.kubernetes.sizes import SNAPSHOTS, UPLOAD
from infra.phases import VectorServer
from infra.service_accounts import SNAPSHOTS as SNAPSHOTS_ACCOUNT
from infra.settings import Stack, Workloads
from infra.versions import AWS_CLI, QDRANT

NAME: Final = "qdrant"
HTTP: Final = 6333
GRPC: Final = 6334
PEERS: Final = 6335
_HEADLESS: Final = "qdrant-headless"
_UID: Final = 1000
"""Of the image's unprivileged flavour."""
# In the quietest hour of most of its users; each region at the same time of UTC.
_NIGHTLY: Final = "17 2 * * *"
# The first peer founds a cluster where it has none yet; the others join it, or what they already belong to.
_START: Final = """\
uri="http://${POD_NAME}.qdrant-headless.trellis-data:6335"
if [ "${POD_NAME}" = "qdrant-0" ]; then exec ./entrypoint.sh --uri "${uri}"; fi
exec ./entrypoint.sh --bootstrap "http://qdrant-0.qdrant-headless.trellis-data:6335" --uri "${uri}"
"""


class Qdrant(Part):
    """The StatefulSet `qdrant`, its Services, and the CronJob of its snapshots."""

    def __init__(
        self, stack: Stack, backends: Backends, opts: pulumi.ResourceOptions, *, after: Sequence[pulumi.Resource]
    ) -> None:
        super().__init__("Qdrant", stack, opts, after=after)
        assert stack.phase.vectors is not None
        self._server: VectorServer = stack.phase.vectors
        self._backends = backends
        self._selector = selected(NAME)
        account(NAME, DATA, "vectors", self.child())
        headless = service(
            _HEADLESS,
            DATA,
            "vectors",
            self._selector,
            [("http", HTTP), ("grpc", GRPC), ("peers", PEERS)],
            self.child(),
            cluster_ip="None",
            # Peers find each other before they are ready.
            publish_not_ready_addresses=True,
        )
        service(NAME, DATA, "vectors", self._selector, [("http", HTTP), ("grpc", GRPC)], self.child())
        self._set(headless)
        budget(NAME, DATA, "vectors", self._selector, self.child())
        if backends.snapshots is not None:
            self._nightly(backends.snapshots)
        self.register_outputs({})

    def _set(self, headless: core.Service) -> None:
        several = self._server.peers > 1
        apps.StatefulSet(
            NAME,
            metadata=metadata(NAME, DATA, labels(NAME, "vectors")),
            spec=apps.StatefulSetSpecArgs(
                service_name=_HEADLESS,
                replicas=self._server.peers,
                pod_management_policy="Parallel",
                selector=meta.LabelSelectorArgs(match_labels=self._selector),
                update_strategy=apps.StatefulSetUpdateStrategyArgs(type="RollingUpdate"),
                persistent_volume_claim_retention_policy=retained(),
                template=core.PodTemplateSpecArgs(
                    metadata=meta.ObjectMetaArgs(labels=labels(NAME, "vectors")),
                    spec=core.PodSpecArgs(
                        service_account_name=NAME,
                        automount_service_account_token=False,
                        enable_service_links=False,
                        priority_class_name=CRITICAL,
                        termination_grace_period_seconds=60,
                        security_context=unprivileged(_UID),
                        affinity=apart(self._selector, required=several and self._backends.zones),
                        topology_spread_constraints=spread(self._selector, zones=self._backends.zones, rollout=False),
                        containers=[self._container(several)],
                        volumes=scratch(*_WRITTEN)[0],
                    ),
                ),
                volume_claim_templates=[
                    claim("storage", self._server.disk_gib, self._backends.storage_class),
                ],
            ),
            opts=self.child(depends_on=[headless], protect=self._backends.lasting),
        )

    def _container(self, several: bool) -> core.ContainerArgs:
        name = self._backends.secrets.vectors
        return core.ContainerArgs(
            name=NAME,
            image=QDRANT.reference,
            image_pull_policy="IfNotPresent",
            command=["/bin/bash", "-c", _START] if several else ["./entrypoint.sh"],
            env=[
                own("POD_NAME", "metadata.name"),
                value("QDRANT__CLUSTER__ENABLED", str(several).lower()),
                value("QDRANT_INIT_FILE_PATH", "/qdrant/init/.qdrant-initialized"),
                value("QDRANT__TELEMETRY_DISABLED", "true"),
                secret("QDRANT__SERVICE__API_KEY", name, "vectors_key"),
                secret("QDRANT__SERVICE__READ_ONLY_API_KEY", name, "vectors_read_key"),
            ],
            ports=[container_port("http", HTTP), container_port("grpc", GRPC), container_port("peers", PEERS)],
            resources=needs(self._server.pod),
            security_context=locked(),
            volume_mounts=[
                core.VolumeMountArgs(name="storage", mount_path="/qdrant/storage", sub_path="storage"),
                # On the same volume: a snapshot of a large index fits nowhere else.
                core.VolumeMountArgs(name="storage", mount_path="/qdrant/snapshots", sub_path="snapshots"),
                *scratch(*_WRITTEN)[1],
            ],
            # Loading what it has takes as long as there is of it: ten minutes.
            startup_probe=http_probe("/readyz", HTTP, every_s=5, failures=120),
            liveness_probe=http_probe("/livez", HTTP, every_s=10, failures=6),
            readiness_probe=http_probe("/readyz", HTTP, every_s=5, failures=2),
        )

    def _nightly(self, bucket: pulumi.Input[str]) -> None:
        account(SNAPSHOTS_ACCOUNT.name, DATA, "backup", self.child())
        batch.CronJob(
            SNAPSHOTS_ACCOUNT.name,
            metadata=metadata(SNAPSHOTS_ACCOUNT.name, DATA, labels(SNAPSHOTS_ACCOUNT.name, "backup")),
            spec=batch.CronJobSpecArgs(
                schedule=_NIGHTLY,
                time_zone="Etc/UTC",
                concurrency_policy="Forbid",
                starting_deadline_seconds=3600,
                successful_jobs_history_limit=1,
                failed_jobs_history_limit=3,
                job_template=batch.JobTemplateSpecArgs(
                    spec=batch.JobSpecArgs(
                        backoff_limit=2,
                        active_deadline_seconds=4 * 3600,
                        template=core.PodTemplateSpecArgs(
                            metadata=meta.ObjectMetaArgs(labels=labels(SNAPSHOTS_ACCOUNT.name, "backup")),
                            spec=self._snapshots_pod(bucket),
                        ),
                    )
                ),
            ),
            opts=self.child(),
        )

    def _snapshots_pod(self, bucket: pulumi.Input[str]) -> core.PodSpecArgs:
        volumes, _ = scratch(*environment.mounts())
        size = self._server.peers * self._server.disk_gib
        template = core.PersistentVolumeClaimTemplateArgs(spec=_claim_spec(size, self._backends.storage_class))
        fetched = core.VolumeArgs(
            name="snapshots", ephemeral=core.EphemeralVolumeSourceArgs(volume_claim_template=template)
        )
        return core.PodSpecArgs(
            service_account_name=SNAPSHOTS_ACCOUNT.name,
            automount_service_account_token=False,
            enable_service_links=False,
            restart_policy="Never",
            priority_class_name=BATCH,
            security_context=unprivileged(UID),
            init_containers=[self._fetch()],
            containers=[_upload(self.stack, bucket)],
            volumes=[*volumes, fetched],
        )

    def _fetch(self) -> core.ContainerArgs:
        """Each peer is asked by itself: a snapshot has one peer's part."""
        given = self.stack.given
        assert isinstance(given, Workloads)
        peers = [f"http://qdrant-{number}.{_HEADLESS}:{HTTP}" for number in range(self._server.peers)]
        nodes = [word for peer in peers for word in ("--node", peer)]
        words = ["knowledge", "snapshot", "create", "--folder", _FETCHED, *nodes]
        env = [
            value("TRELLIS_ENVIRONMENT", "development"),
            value("TRELLIS_VECTORS_URL", f"http://qdrant.{DATA}:{HTTP}"),
            secret("TRELLIS_VECTORS_KEY", self._backends.secrets.vectors, "vectors_key"),
        ]
        fetching = container("fetch", given.image, words, env, SNAPSHOTS, probed=False)
        mounted = list(scratch(*environment.mounts())[1])
        fetching.volume_mounts = [*mounted, core.VolumeMountArgs(name="snapshots", mount_path=_FETCHED)]
        return fetching


_FETCHED: Final = "/snapshots"
_WRITTEN: Final = (("init", "/qdrant/init", "1Mi"), ("tmp", "/tmp", "64Mi"))  # noqa: S108 - the container's own


def _upload(stack: Stack, bucket: pulumi.Input[str]) -> core.ContainerArgs:
    # Its rights come from EKS, by the pod's service account.
    target = pulumi.Output.concat("s3://", bucket, "/qdrant/")
    return core.ContainerArgs(
        name="upload",
        image=AWS_CLI.reference,
        image_pull_policy="IfNotPresent",
        args=["s3", "cp", "--recursive", "--only-show-errors", _FETCHED, target],
        env=[value("HOME", "/tmp"), value("AWS_REGION", stack.region)],  # noqa: S108 - the container's own
        resources=needs(UPLOAD),
        security_context=locked(),
        volume_mounts=[
            core.VolumeMountArgs(name="tmp", mount_path="/tmp"),  # noqa: S108 - the container's own
            core.VolumeMountArgs(name="snapshots", mount_path=_FETCHED, read_only=True),
        ],
    )


def retained() -> apps.StatefulSetPersistentVolumeClaimRetentionPolicyArgs:
    return apps.StatefulSetPersistentVolumeClaimRetentionPolicyArgs(when_deleted="Retain", when_scaled="Retain")


def claim(name: str, gib: int, storage_class: str | None) -> core.PersistentVolumeClaimArgs:
    return core.PersistentVolumeClaimArgs(
        metadata=meta.ObjectMetaArgs(name=name, labels=labels(name, "volume")), spec=_claim_spec(gib, storage_class)
    )


def _claim_spec(gib: int, storage_class: str | None) -> core.PersistentVolumeClaimSpecArgs:
    return core.PersistentVolumeClaimSpecArgs(
        access_modes=["ReadWriteOnce"],
        storage_class_name=storage_class,
        resources=core.VolumeResourceRequirementsArgs(requests={"storage": f"{gib}Gi"}),
    )
