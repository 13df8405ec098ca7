"""Which secrets the workloads need, under which names, and fresh values of them for a cluster of one's own.

In AWS they lie in Secrets Manager as JSON under `<prefix>/<name>`, and External Secrets brings them into the cluster.
On any other cluster one Secret has all of them, in each namespace that reads it. It is made before the stack:

    python -m infra.secrets | kubectl apply -f -

The values are made here, at random, and are kept nowhere else. `MODEL_KEY` in the environment is taken along.
"""

import json
import os
import secrets
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from infra.naming import prefix
from infra.settings import Stack

OWNER: Final = "trellis_owner"
"""The login that owns the tables of a database in the cluster."""
LOGIN: Final = "trellis_serving"
"""The login that the app serves with; it owns nothing."""

APP: Final = "app"
APP_LOGIN: Final = "login"
VECTORS: Final = "vectors"
TELEMETRY: Final = "telemetry"
TOLD_BY: Final = ("pager-api", "pager-models", "pager-data", "pager-platform", "pager-business", "chat", "heartbeat")
"""Keys of those who tell people of alerts: a pager for each team, the chat, and who hears that alerting works."""
MANAGED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        APP: ("session_secret", "model_key"),
        APP_LOGIN: ("password",),
        VECTORS: ("key", "read_key"),
        TELEMETRY: ("grafana_password", *TOLD_BY),
    }
)
"""Of Secrets Manager: the names after the stack's prefix, and the keys of each one's JSON. The database owner's and the
cache's are AWS's own or the data stack's, and named by its outputs."""

NAMESPACES: Final = ("trellis", "trellis-data", "trellis-telemetry")
_BYTES: Final = 24


def managed(stack: Stack, name: str) -> str:
    """The name in Secrets Manager."""
    return f"{prefix(stack)}/{name}"


def fresh(model_key: str) -> Mapping[str, str]:
    """Every key of the one Secret. Passwords are hexadecimal: the same in an address as by themselves."""
    owner, login, cache, vectors, read, session, grafana = (secrets.token_hex(_BYTES) for _ in range(7))
    return {
        "owner_user": OWNER,
        "owner_password": owner,
        "owner_password_url": owner,
        "login_password": login,
        "login_password_url": login,
        "userlist.txt": f'"{LOGIN}" "{login}"\n',
        "cache_user": "default",
        "cache_password": cache,
        "cache_password_url": cache,
        "vectors_key": vectors,
        "vectors_read_key": read,
        "session_secret": session,
        "grafana_password": grafana,
        "model_key": model_key,
    }


def manifest(name: str, model_key: str) -> str:
    """A List of namespaces and of the Secret in each of them, for `kubectl apply`."""
    values = fresh(model_key)
    items: list[Mapping[str, object]] = []
    for namespace in NAMESPACES:
        items.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        about = {"name": name, "namespace": namespace}
        items.append({"apiVersion": "v1", "kind": "Secret", "metadata": about, "type": "Opaque", "stringData": values})
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1)


if __name__ == "__main__":
    print(manifest(sys.argv[1] if sys.argv[1:] else "trellis-secrets", os.environ.get("MODEL_KEY", "unset")))
