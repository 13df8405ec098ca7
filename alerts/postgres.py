"""PostgreSQL and the PgBouncers before it."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from alerts.model import Alert, Group, Severity, Site, Team
from infra.phases import DatabaseServer, Relational

_ticket: Final = partial(Alert, severity=Severity.TICKET, team=Team.DATA, dashboard="trellis-postgres")
_page: Final = partial(Alert, severity=Severity.PAGE, team=Team.DATA, dashboard="trellis-postgres")
_GIB: Final = 1 << 30
_PRIMARY: Final = "on (instance) (pg_replication_is_replica == 0)"


def postgres(site: Site) -> Sequence[Group]:
    server = site.phase.server
    if server is None:
        return ()
    return (Group("postgres", [*_serving(), *_replicas(site), *_transactions(site), *_kept(site, server)]),)


def pgbouncer(site: Site) -> Sequence[Group]:
    server = site.phase.server
    return (Group("pgbouncer", list(_poolers())),) if server is not None and server.poolers else ()


def _serving() -> Iterator[Alert]:
    yield _page(
        name="PostgresDown",
        expr="pg_up == 0",
        hold_s=60,
        summary="PostgreSQL behind {{ $labels.instance }} does not answer its exporter",
        description="Requests that need its rows fail. Look whether the server is down or failing over.",
    )
    used = "sum by (instance) (pg_stat_database_numbackends) / max by (instance) (pg_settings_max_connections)"
    yield _ticket(
        name="PostgresConnections",
        expr=f"{used} > 0.8",
        hold_s=300,
        summary="{{ $value | humanizePercentage }} of the connections of {{ $labels.instance }} are taken",
        description="Few are left; when none is, requests fail. Look who holds them, and for how long.",
    )
    yield _page(
        name="PostgresConnectionsFull",
        expr=f"{used} > 0.95",
        hold_s=120,
        summary="{{ $value | humanizePercentage }} of the connections of {{ $labels.instance }} are taken",
        description="New connections are refused and requests fail. End idle ones, then find who opened them.",
    )


def _replicas(site: Site) -> Iterator[Alert]:
    wanted = site.phase.stores.read_replicas
    if not wanted:
        return
    yield _ticket(
        name="PostgresReplicationLag",
        expr="pg_replication_lag_seconds > 30 and on (instance) (pg_replication_is_replica == 1)",
        hold_s=300,
        summary="The replica {{ $labels.instance }} is {{ $value | humanizeDuration }} behind",
        description="Readers see old rows, or all of them go to the primary. Look at its load and its long queries.",
    )
    yield _ticket(
        name="PostgresReplicaMissing",
        expr=f"(count(pg_replication_is_replica == 1) or vector(0)) < {wanted} and on () count(pg_up == 1) > 0",
        hold_s=300,
        summary="{{ $value }} read replicas answer",
        description=f"There should be {wanted}. The others carry its readers, and a failover has fewer to choose from.",
    )
    yield _ticket(
        name="PostgresSlotUnread",
        expr=f"max by (instance, slot_name) (pg_replication_slots_pg_wal_lsn_diff) > {10 * _GIB}",
        hold_s=600,
        summary="The slot {{ $labels.slot_name }} of {{ $labels.instance }} keeps {{ $value | humanize1024 }}B of log",
        description="Its reader is gone or slow, and the log fills the disk. Bring the reader back or drop the slot.",
    )


def _transactions(site: Site) -> Iterator[Alert]:
    quarter = site.pace(900)
    yield _ticket(
        name="PostgresDeadlocks",
        expr=f"sum by (instance, datname) (increase(pg_stat_database_deadlocks[{quarter}])) > 3",
        hold_s=0,
        summary="{{ $value | humanize }} deadlocks in a quarter of an hour in {{ $labels.datname }}",
        description="PostgreSQL ended one transaction of each. Its log names the statements: two of them lock in turn.",
    )
    yield _ticket(
        name="PostgresLongTransaction",
        expr=f"max by (instance, datname) (pg_stat_activity_max_tx_duration) > {1800 / site.pace.divisor:g}",
        hold_s=300,
        summary="A transaction in {{ $labels.datname }} is {{ $value | humanizeDuration }} old",
        description="It holds locks and keeps dead rows from being removed. Find it in pg_stat_activity and its owner.",
    )
    yield _ticket(
        name="PostgresWraparound",
        expr="max by (instance, datname) (pg_database_wraparound_age_datfrozenxid_seconds) > 1e+09",
        hold_s=600,
        summary="{{ $labels.datname }} is {{ $value | humanize }} transactions from its last freeze",
        description="At 2 billion the server stops taking writes. Look for what keeps autovacuum from freezing.",
    )


def _kept(site: Site, server: DatabaseServer) -> Iterator[Alert]:
    if site.phase.stores.relational is not Relational.AURORA_GLOBAL:
        yield from _archive(site)
    if server.disk_gib is not None:
        held = "sum by (instance) (pg_database_size_bytes) + on (instance) max by (instance) (pg_wal_size_bytes)"
        yield _ticket(
            name="PostgresDiskFilling",
            expr=f"({held}) / {server.disk_gib * _GIB} > 0.8",
            hold_s=600,
            summary="{{ $value | humanizePercentage }} of the disk of {{ $labels.instance }} is taken",
            description=f"It has {server.disk_gib} GiB; a full disk stops all writes. Find what grew, then enlarge it.",
        )


def _archive(site: Site) -> Iterator[Alert]:
    yield _ticket(
        name="PostgresBackupOld",
        expr=f"pg_stat_archiver_last_archive_age > {3600 / site.pace.divisor:g} and {_PRIMARY}",
        hold_s=600,
        summary="The last archived log of {{ $labels.instance }} is {{ $value | humanizeDuration }} old",
        description="What was written since cannot be restored. Look at the archiver and its errors.",
    )
    yield _ticket(
        name="PostgresArchiveFailing",
        expr=f"increase(pg_stat_archiver_failed_count[{site.pace(900)}]) > 0 and {_PRIMARY}",
        hold_s=600,
        summary="{{ $labels.instance }} cannot archive its log",
        description="Backups stop at the last archived log, and the logs that wait fill the disk.",
    )


def _poolers() -> Iterator[Alert]:
    yield _page(
        name="PgBouncersDown",
        expr="max(pgbouncer_up) == 0",
        hold_s=60,
        summary="No PgBouncer answers",
        description="Nothing reaches the database, whatever its own state: requests that need rows fail.",
    )
    yield _ticket(
        name="PgBouncerDown",
        expr="pgbouncer_up == 0",
        hold_s=300,
        summary="The PgBouncer behind {{ $labels.instance }} does not answer its exporter",
        description="The others carry its connections.",
    )
    yield _ticket(
        name="PgBouncerWaiting",
        expr="max by (instance, database) (pgbouncer_pools_client_maxwait_seconds) > 1",
        hold_s=300,
        summary="Clients of {{ $labels.database }} wait {{ $value | humanizeDuration }} for a connection",
        description="The pool is too small for the load, or transactions hold it too long. Look at the oldest of them.",
    )
    clients = "pgbouncer_pools_client_active_connections + pgbouncer_pools_client_waiting_connections"
    yield _ticket(
        name="PgBouncerClients",
        expr=f"sum by (instance) ({clients}) / max by (instance) (pgbouncer_config_max_client_connections) > 0.8",
        hold_s=300,
        summary="{{ $value | humanizePercentage }} of the clients that {{ $labels.instance }} lets in are there",
        description="The next ones are refused and their requests fail. Look which process opened so many.",
    )
