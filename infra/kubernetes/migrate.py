"""`trellis migrate`, once for each image, before any process of it starts.

A revision only adds, and what an older program needs is taken away by a later release (docs/decisions/0029): so the
migration of a new image runs while the old one serves, and going back to the old image needs none. A Job is named after
its image: it is made with the image's first deployment, and gone with its last.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pulumi
from pulumi_kubernetes.batch import v1 as batch
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta

from infra.kubernetes import environment
from infra.kubernetes.app import UID, colours, container
from infra.kubernetes.backends import Backends
from infra.kubernetes.part import Part
from infra.kubernetes.pods import APPS, STANDARD, account, labels, locked, metadata, needs, scratch, unprivileged
from infra.settings import Stack, Workloads

NAME: Final = "trellis-migrate"
_SCRIPT: Final = Path(__file__).with_name("logins.py")
_FOLDER: Final = "/opt/trellis"
_DEADLINE_S: Final = 900


class Migrate(Part):
    """A Job for each image that runs."""

    def __init__(
        self, stack: Stack, backends: Backends, opts: pulumi.ResourceOptions, *, after: Sequence[pulumi.Resource]
    ) -> None:
        super().__init__("Migrate", stack, opts, after=after)
        given = stack.given
        assert isinstance(given, Workloads)
        self._backends = backends
        account(NAME, APPS, "migrate", self.child())
        self._script = core.ConfigMap(
            "logins",
            metadata=metadata("trellis-logins", APPS, labels(NAME, "migrate")),
            data={_SCRIPT.name: _SCRIPT.read_text()},
            opts=self.child(),
        )
        for image in sorted(set(colours(given).values())):
            self._job(image)
        self.register_outputs({})

    def _job(self, image: str) -> None:
        name = f"migrate-{image.rpartition(':')[2][:12]}"
        batch.Job(
            name,
            metadata=metadata(name, APPS, labels(NAME, "migrate")),
            spec=batch.JobSpecArgs(
                backoff_limit=3,
                active_deadline_seconds=_DEADLINE_S,
                template=core.PodTemplateSpecArgs(
                    metadata=meta.ObjectMetaArgs(labels=labels(NAME, "migrate")), spec=self._pod(image)
                ),
            ),
            opts=self.child(depends_on=[self._script]),
        )

    def _pod(self, image: str) -> core.PodSpecArgs:
        volumes, _ = scratch(*environment.mounts())
        script = core.VolumeArgs(
            name="logins", config_map=core.ConfigMapVolumeSourceArgs(name="trellis-logins", default_mode=0o444)
        )
        env = environment.migrating(self.stack, self._backends)
        return core.PodSpecArgs(
            service_account_name=NAME,
            automount_service_account_token=False,
            enable_service_links=False,
            restart_policy="Never",
            priority_class_name=STANDARD,
            security_context=unprivileged(UID),
            init_containers=[self._login(image)],
            containers=[container("migrate", image, ["migrate"], env, self.stack.phase.worker, probed=False)],
            volumes=[*volumes, script],
        )

    def _login(self, image: str) -> core.ContainerArgs:
        return core.ContainerArgs(
            name="login",
            image=image,
            image_pull_policy="IfNotPresent",
            command=["python", f"{_FOLDER}/{_SCRIPT.name}"],
            env=environment.as_owner(self._backends),
            resources=needs(self.stack.phase.worker),
            security_context=locked(),
            volume_mounts=[core.VolumeMountArgs(name="logins", mount_path=_FOLDER, read_only=True)],
        )
