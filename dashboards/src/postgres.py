"""PostgreSQL, PgBouncer before it, and the app's own side of both.

Names are those of postgres_exporter (0.11 with `provisioning/prometheus/postgres_queries.yaml`, or 0.15 and later
without it) and of prometheus-community's pgbouncer_exporter (0.7 and later).
"""

from typing import Final

from dashboards.src.house import Dashboard, Panel, Query, Row, board, label_variable, series, stat, table
from dashboards.src.promql import quantile, rate, share
from infra.phases import Phase
from infra.scrapes import asks

UID: Final = "trellis-postgres"
_BUSY: Final = 'state=~"active|idle in transaction.*"'
_HERE: Final = '{datname=~"$database"}'
_HIT, _READ = rate("pg_stat_database_blks_hit"), rate("pg_stat_database_blks_read")


def used(phase: Phase) -> bool:
    """Where there is a server of its own: SQLite has no exporter."""
    return asks(phase, "postgres")


def build() -> Dashboard:
    return board(
        UID,
        "Trellis: PostgreSQL",
        "Whether the database keeps up: connections, transactions, locks, replicas, the log, tables, and PgBouncer.",
        tags=["platform", "data"],
        variables=[label_variable("database", "datname", "pg_stat_database_numbackends")],
        rows=[_health(), _connections(), _pooler(), _work(), _replication(), _tables()],
    )


def _health() -> Row:
    return Row("Is it healthy", [*_keeping_up(), *_hindered()])


def _keeping_up() -> list[Panel]:
    return [
        stat(
            "Servers up",
            "Share of PostgreSQL servers that answer their exporter. Below 100 %, a server is down or refuses the "
            "exporter's login: look at its pod or RDS events, then at Lag of each replica.",
            "percentunit",
            Query("sum(pg_up) / count(pg_up)"),
            steps=[(0, "red"), (1, "green")],
        ),
        stat(
            "Connections used",
            "Connections of the fullest server, as a share of its max_connections. Above 90 %, new connections "
            "are refused soon: see Connections by state, and PgBouncer's pools.",
            "percentunit",
            Query("max(sum by (instance) (pg_stat_activity_count) / max by (instance) (pg_settings_max_connections))"),
            steps=[(0, "green"), (0.7, "yellow"), (0.9, "red")],
        ),
        stat(
            "Replica lag",
            "Seconds by which the slowest replica shows less than the primary has sent. Over 5 s the app reads "
            "from the writer instead; over 30 s a failover loses sight of recent work. See Lag of each replica.",
            "s",
            Query("max(pg_replication_lag_seconds)"),
            steps=[(0, "green"), (5, "yellow"), (30, "red")],
        ),
    ]


def _hindered() -> list[Panel]:
    return [
        stat(
            "Longest transaction",
            "Age of the oldest open transaction of any server. Minutes of it hold locks and keep vacuum from "
            "removing dead rows: find its process in pg_stat_activity.",
            "s",
            Query(f"max(pg_stat_activity_max_tx_duration{{{_BUSY}}})"),
            steps=[(0, "green"), (60, "yellow"), (300, "red")],
        ),
        stat(
            "Deadlocks a minute",
            "Transactions that PostgreSQL ended because they waited for each other. The app retries; more than "
            "one a minute is two code paths that lock in different orders. See the server's log.",
            "short",
            Query(f"60 * {rate('pg_stat_database_deadlocks')}"),
            steps=[(0, "green"), (0.1, "yellow"), (1, "red")],
            decimals=1,
        ),
        stat(
            "Cache hits",
            "Share of blocks that were found in shared_buffers. Under 95 %, the tables in use no longer fit: see "
            "the whole-table scans in Tables by dead rows.",
            "percentunit",
            Query(share(_HIT, f"({_HIT} + {_READ})")),
            steps=[(0, "red"), (0.95, "yellow"), (0.99, "green")],
        ),
    ]


def _connections() -> Row:
    return Row(
        "Connections",
        [
            series(
                "Connections by state",
                "Sessions on each server by what they do, against the smallest max_connections. Many 'idle in "
                "transaction' are code that waits for something else with a transaction open.",
                "short",
                Query(
                    'sum by (instance, state) (pg_stat_activity_count{datname=~"$database"}) > 0',
                    "{{instance}} {{state}}",
                ),
                target="min(pg_settings_max_connections)",
                target_name="max_connections",
            ),
            series(
                "The app's pools",
                "Connections that the app's processes hold, by pool. All 'in use' and none 'idle' means that requests "
                "queue: see the wait beside it.",
                "short",
                Query("sum by (pool, state) (trellis_database_connections)", "{{pool}} {{state}}"),
                stacked=True,
            ),
            series(
                "Wait for a connection",
                "Time that a task of the app waited for a connection of its pool. Over 50 ms at p99 the pool or "
                "PgBouncer is the bottleneck: compare Clients that wait.",
                "s",
                Query(quantile(0.5, "trellis_database_connection_wait_seconds"), "p50"),
                Query(quantile(0.99, "trellis_database_connection_wait_seconds"), "p99"),
            ),
        ],
    )


def _pooler() -> Row:
    return Row(
        "PgBouncer",
        [
            series(
                "Clients that wait",
                "Clients that asked and have no server connection yet. Above 0 for more than a moment: the pool is "
                "too small, or transactions are too long.",
                "short",
                Query(
                    'sum by (instance, database) (pgbouncer_pools_client_waiting_connections{database=~"$database"})',
                    "{{instance}} {{database}}",
                ),
                width=12,
            ),
            series(
                "Server connections",
                "PgBouncer's connections to PostgreSQL, against the size of the pools. At the line, clients wait.",
                "short",
                Query('sum(pgbouncer_pools_server_active_connections{database=~"$database"})', "active"),
                Query('sum(pgbouncer_pools_server_idle_connections{database=~"$database"})', "idle"),
                Query('sum(pgbouncer_pools_server_used_connections{database=~"$database"})', "used, not checked"),
                target='sum(pgbouncer_databases_pool_size{name=~"$database"})',
                target_name="pool size",
                width=12,
            ),
        ],
    )


def _work() -> Row:
    return Row("Work and locks", [*_transactions(), *_locks()])


def _transactions() -> list[Panel]:
    return [
        series(
            "Transactions",
            "Transactions a second by how they ended. Rollbacks that rise with errors of the API are failing "
            "statements: see the server's log.",
            "ops",
            Query(rate("pg_stat_database_xact_commit", "instance", where=_HERE), "{{instance}} commit"),
            Query(rate("pg_stat_database_xact_rollback", "instance", where=_HERE), "{{instance}} rollback"),
        ),
        series(
            "Where the app reads",
            "Reads of tenants by who answered. 'writer_...' tells why the replica was not used: behind, away, or "
            "its position was not known.",
            "ops",
            Query(rate("trellis_database_reads_total", "where"), "{{where}}"),
            stacked=True,
        ),
    ]


def _locks() -> list[Panel]:
    return [
        series(
            "Locks by mode",
            "Locks held or awaited. 'accessexclusivelock' blocks everybody else on a table: a migration, or a "
            "vacuum by hand.",
            "short",
            Query('sum by (mode) (pg_locks_count{datname=~"$database"})', "{{mode}}"),
        ),
    ]


def _replication() -> Row:
    return Row(
        "Replicas and the log",
        [
            series(
                "Lag of each replica",
                "Seconds of work that a replica has received and does not show yet. One that grows steadily is short "
                "of CPU or disk, or a long query there holds replay up.",
                "s",
                Query("max by (instance) (pg_replication_lag_seconds)", "{{instance}}"),
            ),
            series(
                "Lag as the primary sees it",
                "Bytes of the log that a replica has not replayed. A replica that is missing here is not connected.",
                "bytes",
                Query(
                    "max by (application_name, client_addr) (pg_stat_replication_pg_wal_lsn_diff)",
                    "{{application_name}} {{client_addr}}",
                ),
            ),
            series(
                "Log on the disk",
                "Size of the write-ahead log. Above max_wal_size for long: archiving fails, or a slot has no reader, "
                "and the disk fills.",
                "bytes",
                Query("max by (instance) (pg_wal_size_bytes)", "{{instance}}"),
                target="min(pg_settings_max_wal_size_bytes)",
                target_name="max_wal_size",
            ),
        ],
    )


def _tables() -> Row:
    return Row(
        "Disk and tables",
        [
            series(
                "Checkpoints and archive",
                "Each a minute: checkpoints by time, those asked for because the log was full (raise max_wal_size), "
                "files of the log that were archived, or not (recovery to a point in time is broken).",
                "short",
                Query(f"60 * {rate('pg_stat_bgwriter_checkpoints_timed_total')}", "by time"),
                Query(f"60 * {rate('pg_stat_bgwriter_checkpoints_req_total')}", "asked for"),
                Query(f"60 * {rate('pg_stat_archiver_archived_count')}", "archived"),
                Query(f"60 * {rate('pg_stat_archiver_failed_count')}", "not archived"),
                width=6,
            ),
            series(
                "Size of databases",
                "Bytes on the disk. Compare its growth with the free space of the volume (RDS: FreeStorageSpace).",
                "bytes",
                Query('max by (datname) (pg_database_size_bytes{datname=~"$database"})', "{{datname}}"),
                width=6,
            ),
            table(
                "Tables by dead rows",
                "The ten tables of the primary with most dead rows. More dead than live rows is bloat: autovacuum does "
                "not come through. 'Scans' are whole-table scans since the figures were reset.",
                Query(
                    "topk(10, max by (datname, relname) (pg_stat_user_tables_n_dead_tup"
                    '{datname=~"$database"} unless on (instance) pg_replication_is_replica == 1))',
                    "dead",
                ),
                Query('max by (datname, relname) (pg_stat_user_tables_n_live_tup{datname=~"$database"})', "live"),
                Query('max by (datname, relname) (pg_stat_user_tables_seq_scan{datname=~"$database"})', "scans"),
                columns={"datname": "string", "relname": "string", "dead": "short", "live": "short", "scans": "short"},
            ),
        ],
    )
