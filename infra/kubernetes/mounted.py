"""This repository's own files in a cluster: a ConfigMap's name has the hash of what is in it, so that pods which mount
another content are other pods, and a rollback brings the old content back."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pulumi
from pulumi_kubernetes.core import v1 as core

from infra.errors import InfraError
from infra.kubernetes.pods import labels, metadata

ROOT: Final = Path(__file__).parents[2]
MOST_BYTES: Final = 1 << 20
"""Kubernetes takes no larger ConfigMap."""
_HASHED: Final = 10


def read(pattern: str) -> Mapping[str, str]:
    """Texts by file name of what the pattern finds below the repository's root; links are followed.

    Raises InfraError where there is none.
    """
    found = {path.name: path.read_text() for path in sorted(ROOT.glob(pattern))}
    if not found:
        raise InfraError(f"There is no file '{pattern}' in this repository: run `make generated`.")
    return found


class Mounted:
    """Files of one folder, to be mounted read-only. Raises InfraError where they are too large for a ConfigMap."""

    def __init__(
        self, name: str, namespace: str, component: str, files: Mapping[str, str], opts: pulumi.ResourceOptions
    ) -> None:
        size = sum(len(key) + len(text.encode()) for key, text in files.items())
        if size > MOST_BYTES:
            raise InfraError(f"The files of '{name}' have {size} bytes: a ConfigMap holds {MOST_BYTES}. Divide them.")
        self.volume_name = name
        self.name = f"{name}-{digest(files)}"
        self.config = core.ConfigMap(
            name,
            metadata=metadata(self.name, namespace, labels(name, component)),
            data=dict(files),
            immutable=True,
            opts=opts,
        )

    @property
    def volume(self) -> core.VolumeArgs:
        # From the resource and not by its name alone: pods wait for it.
        config = core.ConfigMapVolumeSourceArgs(name=self.config.metadata.name)
        return core.VolumeArgs(name=self.volume_name, config_map=config)

    def at(self, folder: str) -> core.VolumeMountArgs:
        return core.VolumeMountArgs(name=self.volume_name, mount_path=folder, read_only=True)


def digest(files: Mapping[str, str]) -> str:
    """The same for the same files, whatever order they come in."""
    whole = hashlib.sha256()
    for key, text in sorted(files.items()):
        whole.update(f"{key}\0{len(text)}\0{text}".encode())
    return whole.hexdigest()[:_HASHED]


def from_secret(
    name: str, secret: str, keys: Mapping[str, str], folder: str, *, optional: bool = False
) -> tuple[core.VolumeArgs, core.VolumeMountArgs]:
    """Keys of a Secret as files: `keys` names the file of each. Where `optional`, a missing key is left out."""
    items = [core.KeyToPathArgs(key=key, path=path) for key, path in keys.items()]
    source = core.SecretVolumeSourceArgs(secret_name=secret, items=items, optional=optional, default_mode=0o440)
    return (
        core.VolumeArgs(name=name, secret=source),
        core.VolumeMountArgs(name=name, mount_path=folder, read_only=True),
    )


def token() -> tuple[core.VolumeArgs, core.VolumeMountArgs]:
    """The pod's own token for the API server, where clients look for it: service accounts mount none."""
    sources: Sequence[core.VolumeProjectionArgs] = (
        core.VolumeProjectionArgs(
            service_account_token=core.ServiceAccountTokenProjectionArgs(path="token", expiration_seconds=3600)
        ),
        core.VolumeProjectionArgs(
            config_map=core.ConfigMapProjectionArgs(
                name="kube-root-ca.crt", items=[core.KeyToPathArgs(key="ca.crt", path="ca.crt")]
            )
        ),
        core.VolumeProjectionArgs(
            downward_api=core.DownwardAPIProjectionArgs(
                items=[
                    core.DownwardAPIVolumeFileArgs(
                        path="namespace", field_ref=core.ObjectFieldSelectorArgs(field_path="metadata.namespace")
                    )
                ]
            )
        ),
    )
    return (
        core.VolumeArgs(name="token", projected=core.ProjectedVolumeSourceArgs(sources=list(sources))),
        core.VolumeMountArgs(name="token", mount_path="/var/run/secrets/kubernetes.io/serviceaccount", read_only=True),
    )
