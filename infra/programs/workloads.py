"""What runs in a cluster: a region's cell, or one that is there already."""

import json

import pulumi
import pulumi_kubernetes as k8s

from infra import outputs
from infra.kubernetes.addons import Addons
from infra.kubernetes.app import Api, colours
from infra.kubernetes.autoscaling import Autoscaling
from infra.kubernetes.backends import Backends, of_cell, of_cluster
from infra.kubernetes.environment import pooled
from infra.kubernetes.flows import Flows
from infra.kubernetes.guardrails import Guardrails
from infra.kubernetes.ingress import Bound, Way
from infra.kubernetes.karpenter import NodePools
from infra.kubernetes.mesh import Mesh
from infra.kubernetes.migrate import Migrate
from infra.kubernetes.pgbouncer import PgBouncer
from infra.kubernetes.qdrant import Qdrant
from infra.kubernetes.secrets import Secrets
from infra.kubernetes.sizes import rooms
from infra.kubernetes.stores import Stores
from infra.kubernetes.talking import flows
from infra.kubernetes.telemetry import Telemetry
from infra.kubernetes.telemetry import flows as watching_flows
from infra.kubernetes.vllm import Vllm
from infra.kubernetes.vllm import flows as models_flows
from infra.kubernetes.watching import Watching
from infra.kubernetes.workers import Workers
from infra.layout import Layer, StackName
from infra.outputs import CellOutputs
from infra.settings import Cluster, Stack, Workloads


def workloads(stack: Stack) -> None:
    """Each step comes after the one before: who runs is never there before what it needs."""
    given = stack.given
    assert isinstance(given, Workloads)
    if isinstance(given, Cluster):
        cell, backends, by = None, of_cluster(given), _on_cluster(given)
    else:
        cell = outputs.read(StackName(stack.name.phase, stack.region, Layer.INFRA))
        backends, by = of_cell(stack, cell), _on_cell(stack, cell)
    opts = pulumi.ResourceOptions(providers=[by])
    gpus = backends.models is not None
    addons = Addons(stack, cell, opts, gpus=gpus, mesh=given.mtls) if cell else None
    guardrails = Guardrails(stack, backends, cell.key_arn if cell else None, opts, mesh=given.mtls)
    ready: list[pulumi.Resource] = [guardrails]
    if cell is not None and addons is not None:
        ready += [*addons.made, NodePools(stack, cell, opts, after=[addons.karpenter])]
    if given.mtls:
        ready.append(Mesh(stack, list(rooms(stack.phase, backends)), opts, after=ready))
    if cell is not None:
        ready.append(Secrets(stack, cell, backends.secrets, opts, after=ready))
    watching = _watching(stack, cell, backends)
    open_to = [
        *flows(stack.phase, backends),
        *watching_flows(watching, mesh=given.mtls),
    ]
    open_to += models_flows() if gpus else []
    ready.append(Flows(stack, open_to, opts, mesh=given.mtls, after=[guardrails]))
    # Telemetry is there before what it watches; our own models are scaled by it.
    Telemetry(stack, watching, opts, gpus=gpus, after=ready)
    if backends.models is not None:
        Vllm(stack, backends.models, backends.storage_class, opts, after=ready)
    _run(stack, cell, backends, opts, ready)


def _run(
    stack: Stack,
    cell: CellOutputs | None,
    backends: Backends,
    opts: pulumi.ResourceOptions,
    ready: list[pulumi.Resource],
) -> None:
    """The stores, then the schema, then what uses both, then the way in."""
    given = stack.given
    assert isinstance(given, Workloads)
    stores: list[pulumi.Resource] = [Qdrant(stack, backends, opts, after=ready)]
    if backends.in_cluster:
        stores.append(Stores(stack, backends, opts, after=ready))
    if pooled(stack.phase):
        stores.append(PgBouncer(stack, backends, opts, after=stores if backends.in_cluster else ready))
    schema = Migrate(stack, backends, opts, after=[*ready, *stores])
    api = Api(stack, backends, opts, after=[schema])
    workers = Workers(stack, backends, opts, after=[schema])
    # KEDA comes with the GPU nodes, whose models it scales.
    keda = backends.models is not None
    Autoscaling(stack, list(colours(given)), opts, keda=keda, after=[api, workers])
    if cell is not None:
        Bound(stack, cell.target_group, opts, after=[api])
    else:
        Way(stack, opts, after=[api])


def _watching(stack: Stack, cell: CellOutputs | None, backends: Backends) -> Watching:
    return Watching(
        phase=stack.phase,
        region=stack.region,
        backends=backends,
        buckets={"LOKI": cell.loki_bucket, "TEMPO": cell.tempo_bucket} if cell else {},
        secret=backends.secrets.telemetry,
        target_group=cell.metrics_target_group if cell and len(stack.phase.fleet.regions) > 1 else None,
    )


def _on_cluster(given: Cluster) -> k8s.Provider:
    return k8s.Provider("kubernetes", context=given.context, enable_server_side_apply=True)


def _on_cell(stack: Stack, cell: CellOutputs) -> k8s.Provider:
    """Who runs `pulumi` is known to the cluster by AWS: no token is kept anywhere."""
    config = pulumi.Output.all(cell.cluster_name, cell.cluster_endpoint, cell.cluster_ca).apply(
        lambda known: json.dumps(_kubeconfig(stack.region, *known))
    )
    return k8s.Provider("kubernetes", kubeconfig=config, enable_server_side_apply=True)


def _kubeconfig(region: str, name: str, endpoint: str, authority: str) -> dict[str, object]:
    token = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "aws",
        "args": ["eks", "get-token", "--region", region, "--cluster-name", name, "--output", "json"],
        "interactiveMode": "Never",
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": endpoint, "certificate-authority-data": authority}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "users": [{"name": name, "user": {"exec": token}}],
    }
