"""The settings of the app's processes in a cluster, as variables of their containers.

Names that begin with TRELLIS_ are fields of `app.settings`; a contract test holds them against it, with their values.
An address with a password is put together by the kubelet, from a Secret: `$(...)` is no shell's.
"""

from collections.abc import Sequence
from typing import Final

import pulumi
from pulumi_kubernetes.core import v1 as core

from infra.kubernetes.backends import CACHE_PORT, DATABASE, POSTGRES_PORT, Backends, model_address
from infra.kubernetes.pods import APPS, DATA, TELEMETRY, secret, value
from infra.phases import Phase
from infra.secrets import LOGIN
from infra.settings import Stack, Workloads

PORT: Final = 8321
POOLER_PORT: Final = 6432
VECTORS_PORT: Final = 6333
COLLECTOR_PORT: Final = 4318
DRAIN_S: Final = 10
"""Until every proxy and load balancer has seen that a pod goes."""
GRACE_S: Final = 30
TERMINATION_S: Final = DRAIN_S + GRACE_S + 5
WRITER: Final = "pgbouncer-writer"
READER: Final = "pgbouncer-reader"

Environment = list[core.EnvVarArgs]


def pooled(phase: Phase) -> bool:
    """Whether PgBouncer is between the app and its database."""
    return phase.server is not None and phase.server.poolers > 0


def serving(stack: Stack, backends: Backends) -> Environment:
    """Of the API."""
    return [
        *_process(stack),
        *_database(stack.phase, backends),
        *_cache(backends),
        *_vectors(stack.phase, backends),
        *_models(stack, backends),
        *([value("TRELLIS_TRUSTED_PROXIES", backends.proxies)] if backends.proxies is not None else []),
    ]


def working(stack: Stack, backends: Backends) -> Environment:
    """Of a worker: also the way past the pooler, for what keeps a session."""
    return [*serving(stack, backends), *_direct(stack.phase, backends)]


def migrating(stack: Stack, backends: Backends) -> Environment:
    """Of a migration: also the login that owns the tables."""
    owner = _address(backends.writer, "$(OWNER_USER):$(OWNER_PASSWORD)", tls=backends.tls)
    return [
        *working(stack, backends),
        secret("OWNER_USER", backends.secrets.owner, "owner_user"),
        secret("OWNER_PASSWORD", backends.secrets.owner, "owner_password_url"),
        value("TRELLIS_DATABASE_OWNER_URL", owner),
    ]


def as_owner(backends: Backends) -> Environment:
    """For libpq, of the step that makes the app's login."""
    names = backends.secrets
    return [
        value("PGHOST", backends.writer),
        value("PGPORT", str(POSTGRES_PORT)),
        value("PGDATABASE", DATABASE),
        value("PGSSLMODE", "require" if backends.tls else "prefer"),
        secret("PGUSER", names.owner, "owner_user"),
        secret("PGPASSWORD", names.owner, "owner_password"),
        value("LOGIN", LOGIN),
        secret("LOGIN_PASSWORD", names.login, "login_password"),
    ]


def _process(stack: Stack) -> Environment:
    said = {
        "TRELLIS_ENVIRONMENT": "production",
        "TRELLIS_PHASE": stack.phase.name.value,
        "TRELLIS_REGION": stack.region,
        "TRELLIS_HOST": "0.0.0.0",  # noqa: S104 - the pod's own address
        "TRELLIS_PORT": str(PORT),
        "TRELLIS_HOME": "/var/lib/trellis",
        "TRELLIS_LOG_JSON": "true",
        "TRELLIS_DRAIN_S": str(DRAIN_S),
        "TRELLIS_SHUTDOWN_GRACE_S": str(GRACE_S),
        "TRELLIS_OTLP_URL": f"http://otel-collector.{TELEMETRY}:{COLLECTOR_PORT}",
        # The collector sees whole traces, and keeps what is worth it.
        "TRELLIS_TRACE_SAMPLE": "1",
    }
    return [value(name, text) for name, text in said.items()]


def _database(phase: Phase, backends: Backends) -> Environment:
    found = [secret("DATABASE_PASSWORD", backends.secrets.login, "login_password_url")]
    if not pooled(phase):
        return [*found, value("TRELLIS_DATABASE_URL", _serving_address(backends.writer, backends))]
    found += [
        value("TRELLIS_DATABASE_POOLED", "true"),
        value("TRELLIS_DATABASE_URL", _pooler_address(WRITER)),
    ]
    if backends.reader is not None:
        found.append(value("TRELLIS_DATABASE_READER_URL", _pooler_address(READER)))
    return found


def _direct(phase: Phase, backends: Backends) -> Environment:
    if not pooled(phase):
        return []
    return [value("TRELLIS_DATABASE_DIRECT_URL", _serving_address(backends.writer, backends))]


def _serving_address(host: pulumi.Input[str], backends: Backends) -> pulumi.Output[str]:
    return _address(host, f"{LOGIN}:$(DATABASE_PASSWORD)", tls=backends.tls)


def _address(host: pulumi.Input[str], who: str, *, tls: bool) -> pulumi.Output[str]:
    asked = "?ssl=require" if tls else ""
    return pulumi.Output.concat("postgresql+asyncpg://", who, "@", host, f":{POSTGRES_PORT}/{DATABASE}{asked}")


def _pooler_address(name: str) -> str:
    return f"postgresql+asyncpg://{LOGIN}:$(DATABASE_PASSWORD)@{name}.{APPS}:{POOLER_PORT}/{DATABASE}"


def _cache(backends: Backends) -> Environment:
    name = backends.secrets.cache
    address = pulumi.Output.concat(
        backends.cache_scheme, "://$(CACHE_USER):$(CACHE_PASSWORD)@", backends.cache, f":{CACHE_PORT}"
    )
    return [
        secret("CACHE_USER", name, "cache_user"),
        secret("CACHE_PASSWORD", name, "cache_password_url"),
        value("TRELLIS_REDIS_URL", address),
    ]


def _vectors(phase: Phase, backends: Backends) -> Environment:
    assert phase.vectors is not None
    return [
        value("TRELLIS_VECTORS_URL", f"http://qdrant.{DATA}:{VECTORS_PORT}"),
        secret("TRELLIS_VECTORS_KEY", backends.secrets.vectors, "vectors_key"),
        value("TRELLIS_VECTORS_REPLICAS", str(phase.vectors.copies)),
    ]


def _models(stack: Stack, backends: Backends) -> Environment:
    """The hosted models' endpoint; behind our own models, where there are any."""
    given = stack.given
    assert isinstance(given, Workloads)
    own = model_address(backends)
    kind = "TRELLIS_MODEL_FALLBACK" if own else "TRELLIS_MODEL"
    return [
        secret("TRELLIS_SESSION_SECRET", backends.secrets.app, "session_secret"),
        *(value(name, text) for name, text in own.items()),
        value(f"{kind}_URL", given.model_url),
        value(f"{kind}_NAME", given.model_name),
        secret(f"{kind}_KEY", backends.secrets.app, "model_key"),
    ]


def mounts() -> Sequence[tuple[str, str, str]]:
    """What a process of the app writes to: its data folder, and the files that are being read in."""
    return (("home", "/var/lib/trellis", "512Mi"), ("tmp", "/tmp", "512Mi"))  # noqa: S108 - the container's own
