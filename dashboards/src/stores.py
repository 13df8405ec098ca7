"""Redis and Qdrant, each from its own side and from the app's.

Names are those of redis_exporter (1.45 and later) and of Qdrant (1.17 and later).
"""

from typing import Final

from dashboards.src.house import Dashboard, Panel, Query, Row, board, label_variable, series, stat, table
from dashboards.src.promql import quantile, rate, share
from infra.phases import Phase
from infra.scrapes import asks

UID: Final = "trellis-stores"
_NODE: Final = '{instance=~"$node"}'
_HITS, _MISSES = rate("redis_keyspace_hits_total"), rate("redis_keyspace_misses_total")
_QDRANT: Final = '{job="qdrant"}'
_REST_FAILED: Final = '{job="qdrant", status!~"2.."}'
_GRPC_FAILED: Final = '{job="qdrant", status!="0"}'


def used(phase: Phase) -> bool:
    """Where Redis or Qdrant is a server: embedded ones show on the app's own boards."""
    return asks(phase, "redis") or asks(phase, "qdrant")


def build() -> Dashboard:
    return board(
        UID,
        "Trellis: Redis and Qdrant",
        "Whether caches and vectors answer: memory, evictions, slots, latency, collections, peers, and what the app "
        "does without them.",
        tags=["platform", "data"],
        variables=[label_variable("node", "instance", "redis_up")],
        rows=[
            Row("Is it healthy", [*_redis_health(), *_qdrant_health()]),
            Row("Redis: memory and clients", _redis_memory()),
            Row("Redis: commands", _redis_commands()),
            Row("Redis: cluster and replicas", _redis_cluster()),
            Row("What the app sees of Redis", _app_and_redis()),
            Row("Qdrant", [*_qdrant_requests(), *_qdrant_inside()]),
        ],
    )


def _redis_health() -> list[Panel]:
    return [
        stat(
            "Redis nodes up",
            "Share of Redis nodes that answer their exporter. The app works on without Redis, slower and dearer: "
            "limits count by process and caches miss. See What the app does without Redis.",
            "percentunit",
            Query("sum(redis_up) / count(redis_up)"),
            steps=[(0, "red"), (1, "green")],
            width=5,
        ),
        stat(
            "Slots without a node",
            "Of Redis Cluster's 16,384 slots, those that no node serves, as the worst-informed node sees it. Above 0, "
            "keys are lost to the app until a replica takes over. No data: Redis is not a cluster here.",
            "short",
            Query("16384 - min(redis_cluster_slots_ok)"),
            steps=[(0, "green"), (1, "red")],
            width=5,
        ),
        stat(
            "Redis memory",
            "The fullest node's use of its maxmemory. Redis evicts at 100 %: see Evicted and expired keys.",
            "percentunit",
            Query(f"max({share('redis_memory_used_bytes', 'redis_memory_max_bytes')})"),
            steps=[(0, "green"), (0.8, "yellow"), (0.95, "red")],
            width=5,
        ),
    ]


def _qdrant_health() -> list[Panel]:
    return [
        stat(
            "App without Redis",
            "Nodes that some process of the app leaves alone because they did not answer. Above 0 while all nodes "
            "are up is the network between them.",
            "short",
            Query("sum(trellis_redis_away)"),
            steps=[(0, "green"), (1, "red")],
            width=5,
        ),
        stat(
            "Qdrant failures",
            "Share of Qdrant's REST answers that failed. Above 1 %, answers lack evidence: see Failures by endpoint, "
            "then Qdrant's log.",
            "percentunit",
            Query(
                share(
                    f"({rate('rest_responses_total', where=_REST_FAILED)} or vector(0))",
                    rate("rest_responses_total", where=_QDRANT),
                )
            ),
            steps=[(0, "green"), (0.01, "yellow"), (0.05, "red")],
        ),
    ]


def _redis_memory() -> list[Panel]:
    return [
        series(
            "Memory of each node",
            "Bytes in use, against the smallest maxmemory. Nodes far apart have hot slots.",
            "bytes",
            Query(f"max by (instance) (redis_memory_used_bytes{_NODE})", "{{instance}}"),
            target="min(redis_memory_max_bytes > 0)",
            target_name="maxmemory",
        ),
        series(
            "Evicted and expired keys",
            "Keys a second that left by age (expired, as it should be) or for want of memory (evicted). Evictions "
            "also throw out counters of limits: give the nodes more memory.",
            "ops",
            Query(rate("redis_evicted_keys_total", where=_NODE), "evicted"),
            Query(rate("redis_expired_keys_total", where=_NODE), "expired"),
        ),
        series(
            "Clients",
            "Connections, those blocked in a waiting command, and those refused a minute because maxclients was "
            "reached. Connections that only grow are a leak in some process.",
            "short",
            Query(f"sum by (instance) (redis_connected_clients{_NODE})", "{{instance}}"),
            Query(f"sum(redis_blocked_clients{_NODE})", "blocked"),
            Query(f"60 * {rate('redis_rejected_connections_total', where=_NODE)}", "refused a minute"),
        ),
    ]


def _redis_commands() -> list[Panel]:
    return [
        series(
            "Commands",
            "The ten most frequent commands. A jump without more requests of the API is a loop somewhere.",
            "ops",
            Query(f"topk(10, {rate('redis_commands_total', 'cmd', where=_NODE)})", "{{cmd}}"),
            width=12,
        ),
        series(
            "Time of a command",
            "Mean time on the server of the ten slowest commands, the network not counted. Over 1 ms, Redis is short "
            "of CPU or a command walks many keys: see SLOWLOG.",
            "s",
            Query(
                "topk(10, "
                + share(
                    rate("redis_commands_duration_seconds_total", "cmd", where=_NODE),
                    rate("redis_commands_total", "cmd", where=_NODE),
                )
                + ")",
                "{{cmd}}",
            ),
            width=12,
        ),
    ]


def _redis_cluster() -> list[Panel]:
    return [
        series(
            "Lag of replicas",
            "Seconds since a replica last told its master how far it is. Over 10 s, a failover loses writes. A line "
            "that ends is a replica that is gone.",
            "s",
            Query(
                "max by (instance, slave_ip, slave_port) (redis_connected_slave_lag_seconds)",
                "{{slave_ip}}:{{slave_port}} of {{instance}}",
            ),
            width=10,
        ),
        table(
            "Nodes",
            "Each node: its role, keys, replicas that follow it, and whether its own link to a master is up (1; "
            "empty: it is a master).",
            Query("max by (instance, role) (redis_instance_info)", "nodes"),
            Query("sum by (instance) (redis_db_keys)", "keys"),
            Query("max by (instance) (redis_connected_slaves)", "replicas"),
            Query("max by (instance) (redis_master_link_up)", "link to master"),
            columns={
                "instance": "string",
                "role": "string",
                "keys": "short",
                "replicas": "short",
                "link to master": "short",
            },
            width=14,
        ),
    ]


def _app_and_redis() -> list[Panel]:
    found = rate("trellis_cache_requests_total", "cache", where='{result=~"hit|shared"}')
    looked = rate("trellis_cache_requests_total", "cache", where='{result=~"hit|shared|miss"}')
    return [
        series(
            "Hits of each cache",
            "Share of look-ups that needed no call: found in process, in Redis, or joined to a call under way; and "
            "of look-ups of keys in Redis. 'answers' at 0 for long while questions repeat: its entries are dropped, "
            "or the flag is off.",
            "percentunit",
            Query(share(found, looked), "{{cache}}"),
            Query(share(_HITS, f"({_HITS} + {_MISSES})"), "keys in Redis"),
            maximum=1,
            width=12,
        ),
        series(
            "What the app does without Redis",
            "Uses a second that went on without it. 'limiter': limits are counted by each process alone; 'marks': "
            "reads go to the writer; 'memory': turns lack earlier ones.",
            "ops",
            Query(rate("trellis_redis_fallbacks_total", "use"), "{{use}}"),
            stacked=True,
            width=12,
        ),
    ]


def _qdrant_requests() -> list[Panel]:
    return [
        series(
            "Slowest 1 % of calls",
            "99th percentile by endpoint, REST and gRPC. Searches over 100 ms: too few segments are in memory, or an "
            "index is being built. See Peers and their work.",
            "s",
            Query(quantile(0.99, "rest_responses_duration_seconds", "endpoint", where=_QDRANT), "{{endpoint}}"),
            Query(quantile(0.99, "grpc_responses_duration_seconds", "endpoint", where=_QDRANT), "gRPC {{endpoint}}"),
        ),
        series(
            "Failures by endpoint",
            "Failed answers a second, REST and gRPC. A collection that is missing fails each search: compare "
            "Collections and points.",
            "ops",
            Query(rate("rest_responses_total", "endpoint", "status", where=_REST_FAILED), "{{endpoint}} {{status}}"),
            Query(
                rate("grpc_responses_total", "endpoint", "status", where=_GRPC_FAILED), "gRPC {{endpoint}} {{status}}"
            ),
        ),
        series(
            "The app's retrieval",
            "Time of one retrieval, cache included. High here and low in Qdrant: the embedder or the pool of the app "
            "is slow.",
            "s",
            Query(quantile(0.5, "trellis_retrieval_duration_seconds"), "p50"),
            Query(quantile(0.99, "trellis_retrieval_duration_seconds"), "p99"),
        ),
    ]


def _qdrant_inside() -> list[Panel]:
    return [
        series(
            "Collections and points",
            "Points of each collection, copies on other peers not counted twice. A fall that no deletion explains is "
            "a lost shard.",
            "short",
            Query(f"max by (id) (collection_points{_QDRANT})", "{{id}}"),
            Query(f"max(collections_total{_QDRANT})", "collections"),
        ),
        series(
            "Memory",
            "Bytes that each peer has allocated and holds. Near the pod's limit the kernel ends the peer: see "
            "trellis-kubernetes.",
            "bytes",
            Query(f"max by (instance) (memory_resident_bytes{_QDRANT})", "{{instance}} held"),
            Query(f"max by (instance) (memory_allocated_bytes{_QDRANT})", "{{instance}} allocated"),
        ),
        series(
            "Peers and their work",
            "Peers that each one knows, dead copies of shards, and optimisations and updates under way. Peers that "
            "disagree: the cluster is split. Work that does not end in hours: CPU is short.",
            "short",
            Query(f"max by (instance) (cluster_peers_total{_QDRANT})", "{{instance}} knows"),
            Query(f"sum(collection_dead_replicas{_QDRANT})", "dead copies"),
            Query(f"sum by (id) (collection_running_optimizations{_QDRANT})", "{{id}} optimising"),
            Query(f"sum by (id) (collection_update_queue_length{_QDRANT})", "{{id}} updates waiting"),
        ),
    ]
