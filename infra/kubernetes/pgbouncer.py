"""PgBouncer before the database: one set of processes to its primary, one to its replicas, in transaction mode."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta

from infra.kubernetes.backends import DATABASE, POSTGRES_PORT, Backends
from infra.kubernetes.environment import POOLER_PORT, READER, WRITER
from infra.kubernetes.part import Part
from infra.kubernetes.pods import (
    APPS,
    CRITICAL,
    account,
    budget,
    container_port,
    http_probe,
    labels,
    locked,
    metadata,
    needs,
    scratch,
    secret,
    selected,
    service,
    spread,
    tcp_probe,
    unprivileged,
    value,
)
from infra.kubernetes.sizes import EXPORTER, POOLER
from infra.phases import Phase
from infra.pools import in_rollout, plan
from infra.secrets import LOGIN
from infra.settings import Stack
from infra.versions import PGBOUNCER, PGBOUNCER_EXPORTER

NAME: Final = "pgbouncer"
EXPORTER_PORT: Final = 9127
_UID: Final = 70
_CONFIG: Final = "/etc/pgbouncer"
_USERS: Final = "/etc/pgbouncer-users"
_SPARE: Final = 2
"""Reconnecting clients, and people: times what the processes open at most."""


class PgBouncer(Part):
    """Deployments and Services `pgbouncer-writer` and, where there are replicas, `pgbouncer-reader`."""

    def __init__(
        self, stack: Stack, backends: Backends, opts: pulumi.ResourceOptions, *, after: Sequence[pulumi.Resource]
    ) -> None:
        super().__init__("PgBouncer", stack, opts, after=after)
        self._backends = backends
        account(NAME, APPS, "pooler", self.child())
        self._before(WRITER, backends.writer)
        if backends.reader is not None:
            self._before(READER, backends.reader)
        self.register_outputs({})

    def _before(self, name: str, host: pulumi.Input[str]) -> None:
        server = self.stack.phase.server
        assert server is not None
        written = pulumi.Output.from_input(host).apply(lambda known: config(self.stack.phase, known, self._backends))
        selector = selected(NAME, role=name)
        kept = core.ConfigMap(
            name,
            metadata=metadata(name, APPS, labels(NAME, "pooler", role=name)),
            data={"pgbouncer.ini": written},
            opts=self.child(),
        )
        apps.Deployment(
            name,
            metadata=metadata(name, APPS, labels(NAME, "pooler", role=name)),
            spec=apps.DeploymentSpecArgs(
                replicas=server.poolers,
                selector=meta.LabelSelectorArgs(match_labels=selector),
                revision_history_limit=5,
                # Never one more than the database's connections are counted for (infra/pools.py).
                strategy=apps.DeploymentStrategyArgs(
                    type="RollingUpdate",
                    rolling_update=apps.RollingUpdateDeploymentArgs(max_surge=0, max_unavailable=1),
                ),
                template=core.PodTemplateSpecArgs(
                    metadata=meta.ObjectMetaArgs(
                        labels=labels(NAME, "pooler", role=name),
                        # It reads its file once: a new file makes new pods.
                        annotations={"trellis/config": written.apply(_short)},
                    ),
                    spec=self._pod(name, selector),
                ),
            ),
            opts=self.child(depends_on=[kept]),
        )
        service(name, APPS, "pooler", selector, [("postgres", POOLER_PORT)], self.child())
        budget(name, APPS, "pooler", selector, self.child())

    def _pod(self, name: str, selector: Mapping[str, str]) -> core.PodSpecArgs:
        volumes, _ = scratch(("tmp", "/tmp", "16Mi"))  # noqa: S108 - the container's own
        users = core.SecretVolumeSourceArgs(
            secret_name=self._backends.secrets.login,
            default_mode=0o440,
            items=[core.KeyToPathArgs(key="userlist.txt", path="userlist.txt")],
        )
        return core.PodSpecArgs(
            service_account_name=NAME,
            automount_service_account_token=False,
            enable_service_links=False,
            priority_class_name=CRITICAL,
            # SIGTERM: transactions that run are ended, then it goes.
            termination_grace_period_seconds=60,
            security_context=unprivileged(_UID),
            topology_spread_constraints=spread(selector, zones=self._backends.zones),
            containers=[self._pooler(), self._exporter()],
            volumes=[
                *volumes,
                core.VolumeArgs(name="config", config_map=core.ConfigMapVolumeSourceArgs(name=name)),
                core.VolumeArgs(name="users", secret=users),
            ],
        )

    def _pooler(self) -> core.ContainerArgs:
        _, mounted = scratch(("tmp", "/tmp", "16Mi"))  # noqa: S108 - the container's own
        return core.ContainerArgs(
            name=NAME,
            image=PGBOUNCER.reference,
            image_pull_policy="IfNotPresent",
            command=["pgbouncer", f"{_CONFIG}/pgbouncer.ini"],
            ports=[container_port("postgres", POOLER_PORT)],
            resources=needs(POOLER),
            security_context=locked(),
            volume_mounts=[
                *mounted,
                core.VolumeMountArgs(name="config", mount_path=_CONFIG, read_only=True),
                core.VolumeMountArgs(name="users", mount_path=_USERS, read_only=True),
            ],
            startup_probe=tcp_probe(POOLER_PORT, every_s=2, failures=30),
            liveness_probe=tcp_probe(POOLER_PORT),
            readiness_probe=tcp_probe(POOLER_PORT, every_s=5, failures=2),
        )

    def _exporter(self) -> core.ContainerArgs:
        address = f"postgres://{LOGIN}:$(DATABASE_PASSWORD)@127.0.0.1:{POOLER_PORT}/pgbouncer?sslmode=disable"
        return core.ContainerArgs(
            name="exporter",
            image=PGBOUNCER_EXPORTER.reference,
            image_pull_policy="IfNotPresent",
            env=[
                secret("DATABASE_PASSWORD", self._backends.secrets.login, "login_password_url"),
                value("PGBOUNCER_EXPORTER_CONNECTION_STRING", address),
            ],
            ports=[container_port("metrics", EXPORTER_PORT)],
            resources=needs(EXPORTER),
            security_context=locked(),
            startup_probe=http_probe("/", EXPORTER_PORT, every_s=2, failures=30),
            liveness_probe=http_probe("/", EXPORTER_PORT, every_s=30, failures=3),
            readiness_probe=http_probe("/", EXPORTER_PORT, every_s=10, failures=3),
        )


def config(phase: Phase, host: str, backends: Backends) -> str:
    """Its file. Connections to the server as `infra/pools.py` computes them, for the one login that goes through it."""
    pools, server = plan(phase), phase.server
    assert server is not None
    processes = in_rollout(phase.fleet.most) + in_rollout(server.workers)
    said: Mapping[str, object] = {
        "listen_addr": "0.0.0.0",  # noqa: S104 - the pod's own address
        "listen_port": POOLER_PORT,
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": f"{_USERS}/userlist.txt",
        "stats_users": LOGIN,
        "pool_mode": "transaction",
        "default_pool_size": pools.pooler,
        "max_db_connections": pools.pooler,
        "max_client_conn": _SPARE * processes * pools.process,
        "server_tls_sslmode": "require" if backends.tls else "prefer",
        # A primary that moved has another address behind the same name.
        "dns_max_ttl": 5,
        "server_lifetime": 1800,
        "server_idle_timeout": 60,
        "server_connect_timeout": 5,
        "server_login_retry": 1,
        # As long as the app itself waits for a connection.
        "query_wait_timeout": 30,
        "log_connections": 0,
        "log_disconnections": 0,
        # The exporter's driver says it at each start.
        "ignore_startup_parameters": "extra_float_digits",
    }
    lines = "".join(f"{name} = {text}\n" for name, text in said.items())
    return f"[databases]\n{DATABASE} = host={host} port={POSTGRES_PORT} dbname={DATABASE}\n\n[pgbouncer]\n{lines}"


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]
