"""Brings secrets from Secrets Manager into the cluster, by External Secrets: their values pass through no state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta import v1 as meta

from infra.kubernetes.backends import SecretNames
from infra.kubernetes.part import Part
from infra.kubernetes.pods import APPS, DATA, TELEMETRY, labels, metadata
from infra.outputs import CellOutputs
from infra.secrets import APP, APP_LOGIN, LOGIN, MANAGED, VECTORS, managed
from infra.secrets import TELEMETRY as WATCHING
from infra.settings import Stack

API: Final = "external-secrets.io/v1"
STORE: Final = "aws"
"""The ClusterSecretStore: Secrets Manager of the stack's region, asked with the operator's own rights."""
_EVERY: Final = "5m"


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """A Secret by its keys: a key's template, over what was read.

    `read`: names of templates by (secret in Secrets Manager, key of its JSON).
    """

    name: str
    namespace: str
    read: Mapping[str, tuple[pulumi.Input[str], str]]
    keys: Mapping[str, str]


class Secrets(Part):
    """The store, and the Secrets of the app and of its data stores."""

    def __init__(
        self,
        stack: Stack,
        cell: CellOutputs,
        names: SecretNames,
        opts: pulumi.ResourceOptions,
        *,
        after: Sequence[pulumi.Resource],
    ) -> None:
        super().__init__("Secrets", stack, opts, after=after)
        self._store = CustomResource(
            STORE,
            api_version=API,
            kind="ClusterSecretStore",
            metadata=meta.ObjectMetaArgs(name=STORE, labels=labels(STORE, "secrets")),
            spec={"provider": {"aws": {"service": "SecretsManager", "region": stack.region}}},
            opts=self.child(),
        )
        for external in _all(stack, cell, names):
            self.bring(external)
        self.register_outputs({})

    def bring(self, external: External) -> None:
        CustomResource(
            f"{external.namespace}-{external.name}",
            api_version=API,
            kind="ExternalSecret",
            metadata=metadata(external.name, external.namespace, labels(external.name, "secrets")),
            spec=_spec(external),
            opts=self.child(depends_on=[self._store]),
        )


def _spec(external: External) -> dict[str, Any]:
    template = {"engineVersion": "v2", "type": "Opaque", "data": dict(external.keys)}
    return {
        "refreshInterval": _EVERY,
        "secretStoreRef": {"kind": "ClusterSecretStore", "name": STORE},
        "target": {"name": external.name, "creationPolicy": "Owner", "deletionPolicy": "Retain", "template": template},
        "data": [
            {"secretKey": name, "remoteRef": {"key": of, "property": key}} for name, (of, key) in external.read.items()
        ],
    }


def _all(stack: Stack, cell: CellOutputs, names: SecretNames) -> Sequence[External]:
    vectors = {"vectors_key": "key", "vectors_read_key": "read_key"}
    login = managed(stack, APP_LOGIN)
    return [
        _plain(names.app, APPS, managed(stack, APP), {"session_secret": "session_secret", "model_key": "model_key"}),
        External(
            name=names.owner,
            namespace=APPS,
            read={
                "owner_user": (cell.database_secret, "username"),
                "owner_password": (cell.database_secret, "password"),
            },
            keys={**_same("owner_user", "owner_password"), "owner_password_url": _quoted("owner_password")},
        ),
        External(
            name=names.login,
            namespace=APPS,
            read={"login_password": (login, "password")},
            keys={
                **_same("login_password"),
                "login_password_url": _quoted("login_password"),
                "userlist.txt": f'"{LOGIN}" "{{{{ .login_password }}}}"\n',
            },
        ),
        External(
            name=names.cache,
            namespace=APPS,
            read={"cache_user": (cell.cache_secret, "username"), "cache_password": (cell.cache_secret, "password")},
            keys={**_same("cache_user", "cache_password"), "cache_password_url": _quoted("cache_password")},
        ),
        _plain(names.vectors, APPS, managed(stack, VECTORS), vectors),
        _plain(names.vectors, DATA, managed(stack, VECTORS), vectors),
        *_of_telemetry(stack, cell, names),
    ]


def _of_telemetry(stack: Stack, cell: CellOutputs, names: SecretNames) -> Sequence[External]:
    """What exporters ask the stores with, Prometheus the vectors, and what people are told with."""
    return [
        External(
            name=names.owner,
            namespace=TELEMETRY,
            read={
                "owner_user": (cell.database_secret, "username"),
                "owner_password": (cell.database_secret, "password"),
            },
            keys=_same("owner_user", "owner_password"),
        ),
        _plain(names.cache, TELEMETRY, cell.cache_secret, {"cache_user": "username", "cache_password": "password"}),
        _plain(names.vectors, TELEMETRY, managed(stack, VECTORS), {"vectors_read_key": "read_key"}),
        _dashed(names.telemetry, managed(stack, WATCHING), MANAGED[WATCHING]),
    ]


def _dashed(name: str, of: str, keys: Sequence[str]) -> External:
    """Keys whose names have dashes: a template takes them by `index`."""
    return External(
        name=name,
        namespace=TELEMETRY,
        read={key: (of, key) for key in keys},
        keys={key: f'{{{{ index . "{key}" }}}}' for key in keys},
    )


def _plain(name: str, namespace: str, of: pulumi.Input[str], keys: Mapping[str, str]) -> External:
    """Keys as they are in one secret, under other names."""
    return External(
        name=name, namespace=namespace, read={key: (of, there) for key, there in keys.items()}, keys=_same(*keys)
    )


def _same(*names: str) -> dict[str, str]:
    return {name: f"{{{{ .{name} }}}}" for name in names}


def _quoted(name: str) -> str:
    """As a part of an address."""
    return f"{{{{ .{name} | urlquery }}}}"
