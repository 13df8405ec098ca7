"""Redis, Qdrant, and the stream of the PoC's SQLite."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from alerts.expressions import total
from alerts.model import Alert, Group, Severity, Site, Team
from infra.phases import Cache, Relational, Vectors

_ticket: Final = partial(Alert, severity=Severity.TICKET, team=Team.DATA, dashboard="trellis-stores")
_page: Final = partial(Alert, severity=Severity.PAGE, team=Team.DATA, dashboard="trellis-stores")
_of_copy: Final = partial(_ticket, dashboard="trellis-machine")
_SLOTS: Final = 16_384


def redis(site: Site) -> Sequence[Group]:
    cache = site.phase.stores.cache
    if cache is Cache.IN_PROCESS:
        return ()
    of_cluster = _slots() if cache is Cache.REDIS_CLUSTER else iter(())
    return (Group("redis", [*_node(site), *_followers(), *of_cluster]),)


def _node(site: Site) -> Iterator[Alert]:
    window = site.pace(300)
    yield _ticket(
        name="RedisDown",
        expr="redis_up == 0",
        hold_s=120,
        summary="The Redis behind {{ $labels.instance }} does not answer its exporter",
        description="Its caches and limits are held by each process for itself: answers cost more, limits are looser.",
    )
    yield _ticket(
        name="RedisMemory",
        expr="redis_memory_used_bytes / (redis_memory_max_bytes > 0) > 0.9",
        hold_s=600,
        summary="{{ $value | humanizePercentage }} of the memory of {{ $labels.instance }} is taken",
        description="At its limit it throws keys away. Look what grew: answers, sessions, or keys that never expire.",
    )
    yield _ticket(
        name="RedisEvictions",
        expr=f"rate(redis_evicted_keys_total[{window}]) > 1",
        hold_s=900,
        summary="{{ $labels.instance }} throws away {{ $value | humanize }} keys a second",
        description="Its memory is full: answers go early, limits forget who asked. Give it more, or cache less.",
    )
    yield _ticket(
        name="RedisRejectedConnections",
        expr=f"increase(redis_rejected_connections_total[{window}]) > 0",
        hold_s=0,
        summary="{{ $labels.instance }} turned away {{ $value | humanize }} connections in five minutes",
        description="It has as many clients as it lets in. Look which process opens them and does not give them back.",
    )


def _followers() -> Iterator[Alert]:
    yield _ticket(
        name="RedisReplicationBroken",
        expr="redis_master_link_up == 0",
        hold_s=300,
        summary="The replica {{ $labels.instance }} has lost its master",
        description="A failover to it would lose what was written since. Look at the network and the master's memory.",
    )
    yield _ticket(
        name="RedisReplicaMissing",
        expr='redis_connected_slaves == 0 and on (instance) (redis_instance_info{role="master"})',
        hold_s=600,
        summary="The master {{ $labels.instance }} has no replica",
        description="If it goes, its keys go with it, and nothing takes its place.",
    )


def _slots() -> Iterator[Alert]:
    yield _page(
        name="RedisClusterBroken",
        expr="max(redis_cluster_state) == 0",
        hold_s=60,
        summary="The Redis Cluster says on every node that it is not whole",
        description="It takes no command: every answer is asked of a model, limits and locks are not shared.",
    )
    yield _ticket(
        name="RedisClusterSlots",
        expr=f"min by (instance) (redis_cluster_slots_ok and on (instance) (redis_cluster_enabled == 1)) < {_SLOTS}",
        hold_s=120,
        summary="{{ $labels.instance }} sees {{ $value }} of 16384 slots served",
        description="Keys of the others cannot be read or written. A lone master is away, or a move hangs.",
    )


def qdrant(site: Site) -> Sequence[Group]:
    vectors = site.phase.stores.vectors
    if vectors is Vectors.EMBEDDED:
        return ()
    of_cluster = _peers() if vectors is Vectors.CLUSTER else iter(())
    return (Group("qdrant", [*_collections(site), *of_cluster]),)


def _collections(site: Site) -> Iterator[Alert]:
    yield _page(
        name="QdrantDown",
        expr='max(up{job="qdrant"}) == 0',
        hold_s=120,
        summary="No Qdrant answers",
        description="Nothing can be looked up: answers have no evidence, or are refused.",
    )
    yield _ticket(
        name="QdrantCollectionNotGreen",
        expr="max by (id) (collection_running_optimizations) > 0",
        hold_s=7200,
        summary="The collection {{ $labels.id }} has been optimizing for two hours",
        description="It is yellow: it answers, slower. Look at the disk, the memory and how fast documents come in.",
    )
    responses, failed = "rest_responses_total", 'rest_responses_total{status=~"5.."}'
    yield _ticket(
        name="QdrantErrors",
        expr=(f"{total(site, failed, 300)} / {total(site, responses, 300)} > 0.05 and {total(site, failed, 300)} > 5"),
        hold_s=300,
        summary="{{ $value | humanizePercentage }} of Qdrant's answers are errors of its own",
        description="Look-ups and ingestion fail or are tried again. Its log names the collection.",
    )


def _peers() -> Iterator[Alert]:
    yield _ticket(
        name="QdrantPeersAway",
        expr='count(up{job="qdrant"} == 1) < max(cluster_peers_total)',
        hold_s=300,
        summary="{{ $value }} peers of the Qdrant cluster answer",
        description="The cluster knows of more. Its shards are served by fewer replicas; one more may be one too many.",
    )
    yield _ticket(
        name="QdrantReplicasDead",
        expr="max(collection_dead_replicas) > 0",
        hold_s=600,
        summary="{{ $value }} shard replicas are not active",
        description="They are being recovered, or cannot be. Look whether a transfer runs and gets on.",
    )
    yield _page(
        name="QdrantShardDown",
        expr="max(collection_active_replicas_min) == 0",
        hold_s=120,
        summary="A shard has no active replica",
        description="What is in it is not found: answers miss evidence that exists. Bring its peer back first.",
    )


def backups(site: Site) -> Sequence[Group]:
    """Of SQLite: servers archive by themselves, and their rules are in `postgres`."""
    if site.phase.stores.relational is not Relational.SQLITE:
        return ()
    return (Group("backups", list(_stream(site))),)


def _stream(site: Site) -> Iterator[Alert]:
    hour, quarter = site.pace(3600), site.pace(900)
    copied = f'sum(increase(litestream_replica_operation_total{{operation="PUT"}}[{hour}])) > 0'
    yield _of_copy(
        name="SqliteBackupOld",
        expr=f"sum(changes(litestream_txid[{hour}])) > 0 unless {copied}",
        hold_s=600,
        summary="Nothing was copied away for an hour, and rows were written",
        description="If this machine is lost, so are they. Look at Litestream's log and its access to the bucket.",
    )
    yield _of_copy(
        name="SqliteBackupErrors",
        expr=f"{total(site, 'litestream_replica_operation_errors_total', 900, 'operation')} > 5",
        hold_s=600,
        summary="{{ $value | humanize }} {{ $labels.operation }} operations of the backup failed in 15 minutes",
        description="The copy in the bucket falls behind. The usual reasons: expired access, a full or a wrong bucket.",
    )
    yield _of_copy(
        name="SqliteBackupStopped",
        expr=f"max_over_time(litestream_disk_full[{quarter}]) == 1",
        hold_s=0,
        summary="Litestream has stopped: the disk is full",
        description="Nothing is copied away until there is room again.",
    )
