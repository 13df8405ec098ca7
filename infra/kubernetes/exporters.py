"""What tells Prometheus of those that do not tell by themselves: stores, nodes, and Kubernetes' own objects."""

from collections.abc import Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Final

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.networking import v1 as networking

from infra.kubernetes import pods
from infra.kubernetes.backends import CACHE_PORT, DATABASE, POSTGRES_PORT, Backends
from infra.kubernetes.mounted import Mounted, read, token
from infra.kubernetes.part import Part
from infra.kubernetes.pods import TELEMETRY, secret, value
from infra.kubernetes.process import Process, deployment
from infra.kubernetes.rights import LISTED, reads
from infra.kubernetes.sizes import EXPORTER
from infra.kubernetes.watching import Watching
from infra.phases import Phase, Pod, Relational
from infra.settings import Stack
from infra.versions import KUBE_STATE_METRICS, NODE_EXPORTER, POSTGRES_EXPORTER, REDIS_EXPORTER, Image

NODES: Final = "host-telemetry"
"""The namespace of what has to see the machine itself; no other pod of ours may."""
NODE_PORT: Final = 9100
POSTGRES: Final = 9187
REDIS: Final = 9121
KUBE: Final = 8080
_NOBODY: Final = 65534
_QUERIES: Final = "/etc/postgres-exporter"
# What rules and boards ask for (`kube_*` in alerts and dashboards), by group.
_TOLD: Final[Sequence[tuple[str, Sequence[str]]]] = (
    ("", ("nodes", "pods", "namespaces", "persistentvolumeclaims")),
    ("apps", ("deployments", "statefulsets", "daemonsets")),
    ("batch", ("jobs",)),
    ("autoscaling", ("horizontalpodautoscalers",)),
    ("policy", ("poddisruptionbudgets",)),
)


class Exporters(Part):
    """One for each PostgreSQL address, one for each node of the cache, one on each node, one for Kubernetes."""

    def __init__(self, stack: Stack, watching: Watching, parent: Part) -> None:
        super().__init__("Exporters", stack, parent.child())
        self._watching = watching
        self._kubernetes()
        self._nodes()
        for name, server in postgres_servers(watching.phase, watching.backends).items():
            self._postgres(name, server)
        for number, host in enumerate(cache_nodes(watching.phase, watching.backends)):
            self._redis(number, host)
        self.register_outputs({})

    def _kubernetes(self) -> None:
        api, mount = token()
        rights = reads(self, "kube-state-metrics", [(group, resources, LISTED) for group, resources in _TOLD])
        process = self._process(
            "kube-state-metrics",
            "kube-state-metrics",
            KUBE_STATE_METRICS,
            KUBE,
            pod=Pod(50, 192),
            alive="/healthz",
            args=[
                f"--resources={','.join(sorted(name for _, resources in _TOLD for name in resources))}",
                f"--port={KUBE}",
            ],
            volumes=[api],
            mounts=[mount],
        )
        deployment(self, process, after=[rights])

    def _postgres(self, name: str, host: pulumi.Input[str]) -> None:
        backends = self._watching.backends
        args, volumes, mounts = ["--collector.database_wraparound"], [], []
        if self._watching.phase.stores.relational is Relational.AURORA_GLOBAL:
            # Aurora shares its log: there is no folder of it to look into, and its replicas are told of by a function.
            queries = Mounted(
                f"queries-{name}",
                TELEMETRY,
                "config",
                read("provisioning/prometheus/aurora_queries.yaml"),
                self.child(),
            )
            args += ["--no-collector.wal", f"--extend.query-path={_QUERIES}/aurora_queries.yaml"]
            volumes, mounts = [queries.volume], [queries.at(_QUERIES)]
        mode = "require" if backends.tls else "prefer"
        address = pulumi.Output.concat(host, f":{POSTGRES_PORT}/{DATABASE}?sslmode={mode}")
        process = self._process(
            f"postgres-exporter-{name}",
            "postgres",
            POSTGRES_EXPORTER,
            POSTGRES,
            component=name,
            args=args,
            env=[
                value("DATA_SOURCE_URI", address),
                secret("DATA_SOURCE_USER", backends.secrets.owner, "owner_user"),
                secret("DATA_SOURCE_PASS", backends.secrets.owner, "owner_password"),
            ],
            volumes=volumes,
            mounts=mounts,
        )
        deployment(self, process)

    def _redis(self, number: int, host: pulumi.Input[str]) -> None:
        backends = self._watching.backends
        scheme = "rediss" if backends.tls else "redis"
        process = self._process(
            f"redis-exporter-{number}",
            "redis",
            REDIS_EXPORTER,
            REDIS,
            component=f"node-{number}",
            alive="/health",
            env=[
                value("REDIS_ADDR", pulumi.Output.concat(scheme, "://", host, f":{CACHE_PORT}")),
                secret("REDIS_USER", backends.secrets.cache, "cache_user"),
                secret("REDIS_PASSWORD", backends.secrets.cache, "cache_password"),
            ],
        )
        deployment(self, process)

    def _process(
        self,
        name: str,
        job: str,
        image: Image,
        port: int,
        *,
        component: str = "exporter",
        pod: Pod = EXPORTER,
        alive: str = "/",
        args: Sequence[str] = (),
        env: Sequence[core.EnvVarArgs] = (),
        volumes: Sequence[core.VolumeArgs] = (),
        mounts: Sequence[core.VolumeMountArgs] = (),
    ) -> Process:
        return Process(
            name=name,
            job=job,
            component=component,
            image=image,
            uid=_NOBODY,
            pod=pod,
            ports={"http": port},
            probed=port,
            ready=alive,
            alive=alive,
            zones=self._watching.backends.zones,
            args=args,
            env=env,
            volumes=volumes,
            mounts=mounts,
        )

    def _nodes(self) -> None:
        """On the machine's own network, or its interfaces would not be seen. It reads and nothing else."""
        namespace = privileged_namespace(self)
        networking.NetworkPolicy(
            f"{NODES}-closed",
            metadata=pods.metadata("closed", NODES, pods.labels(NODES, "flows")),
            spec=networking.NetworkPolicySpecArgs(
                pod_selector=meta.LabelSelectorArgs(), policy_types=["Ingress", "Egress"]
            ),
            opts=self.child(depends_on=[namespace]),
        )
        pods.account("node-exporter", NODES, "exporter", self.child(depends_on=[namespace]))
        host = core.VolumeArgs(name="root", host_path=core.HostPathVolumeSourceArgs(path="/", type="Directory"))
        container = core.ContainerArgs(
            name="node",
            image=NODE_EXPORTER.reference,
            args=[
                "--path.rootfs=/host",
                "--path.procfs=/host/proc",
                "--path.sysfs=/host/sys",
                f"--web.listen-address=:{NODE_PORT}",
                "--collector.filesystem.mount-points-exclude=^/(dev|proc|run|sys|var/lib/kubelet/.+|var/lib/containerd/.+)($|/)",
                "--collector.netdev.device-exclude=^(veth|eni|cali|lo).*$",
                "--no-collector.wifi",
            ],
            ports=[pods.container_port("http", NODE_PORT)],
            resources=pods.needs(EXPORTER),
            security_context=pods.locked(),
            readiness_probe=pods.http_probe("/", NODE_PORT, every_s=10, failures=3),
            liveness_probe=pods.http_probe("/", NODE_PORT, every_s=20, failures=6),
            startup_probe=pods.http_probe("/", NODE_PORT, every_s=5, failures=24),
            volume_mounts=[
                core.VolumeMountArgs(
                    name="root", mount_path="/host", read_only=True, mount_propagation="HostToContainer"
                )
            ],
        )
        daemon_set(self, "node-exporter", "node", container, [host], after=[namespace], host_network=True)


def daemon_set(
    part: Part,
    name: str,
    job: str,
    container: core.ContainerArgs,
    volumes: Sequence[core.VolumeArgs],
    *,
    after: Sequence[pulumi.Resource],
    uid: int = _NOBODY,
    host_network: bool = False,
    nodes: Mapping[str, str] | None = None,
) -> apps.DaemonSet:
    """One on each node, whatever it is tainted with; `nodes`: on those with these labels only."""
    security = pods.unprivileged(uid)
    security.run_as_non_root = uid != 0
    return apps.DaemonSet(
        name,
        metadata=pods.metadata(name, NODES, pods.labels(job, "exporter")),
        spec=apps.DaemonSetSpecArgs(
            selector=meta.LabelSelectorArgs(match_labels=pods.selected(job)),
            update_strategy=apps.DaemonSetUpdateStrategyArgs(
                type="RollingUpdate", rolling_update=apps.RollingUpdateDaemonSetArgs(max_unavailable="25%")
            ),
            template=core.PodTemplateSpecArgs(
                metadata=meta.ObjectMetaArgs(labels=pods.labels(job, "exporter")),
                spec=core.PodSpecArgs(
                    service_account_name=name,
                    automount_service_account_token=False,
                    enable_service_links=False,
                    priority_class_name="system-node-critical",
                    security_context=security,
                    host_network=host_network or None,
                    node_selector={"kubernetes.io/os": "linux", **(nodes or {})},
                    tolerations=[core.TolerationArgs(operator="Exists")],
                    volumes=list(volumes),
                    containers=[container],
                ),
            ),
        ),
        opts=part.child(depends_on=after),
    )


def privileged_namespace(part: Part) -> core.Namespace:
    """For pods that mount the machine's folders: Pod Security's `restricted` lets none of them in."""
    modes = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "audit", "warn")}
    return core.Namespace(
        NODES,
        metadata=meta.ObjectMetaArgs(name=NODES, labels=pods.labels(NODES, "namespace", **modes)),
        opts=part.child(),
    )


def postgres_servers(phase: Phase, backends: Backends) -> Mapping[str, pulumi.Input[str]]:
    """Hosts by name. Each replica of RDS has its own; Aurora's are behind one address."""
    found: dict[str, pulumi.Input[str]] = {"writer": backends.writer}
    if backends.reader is not None:
        readers = pulumi.Output.from_input(backends.reader).apply(lambda known: known.split(","))
        number = 1 if phase.stores.relational is Relational.AURORA_GLOBAL else phase.stores.read_replicas
        found |= {f"reader-{n}": readers.apply(itemgetter(n)) for n in range(number)}
    return found


def cache_nodes(phase: Phase, backends: Backends) -> Sequence[pulumi.Input[str]]:
    """The address of each node. ElastiCache names them after its group: `<prefix>.<group>.<rest>` is the group's own,
    `<group>-0001-002.<group>.<rest>` the second node of the first shard (without shards: `<group>-002`)."""
    server = phase.cache
    if backends.in_cluster or server is None:
        return [backends.cache]
    shards = phase.stores.cache_shards
    each = range(1, server.replicas + 2)
    endings = (
        [f"{s:04}-{n:03}" for s in range(1, shards + 1) for n in each] if shards > 1 else [f"{n:03}" for n in each]
    )
    address = pulumi.Output.from_input(backends.cache)
    return [address.apply(partial(cache_node, ending)) for ending in endings]


def cache_node(ending: str, address: str) -> str:
    """The address of a node by that of its group."""
    _, _, rest = address.partition(".")
    return f"{rest.partition('.')[0]}-{ending}.{rest}"
