"""PostgreSQL."""

from tests.support.alert_quartets import quartet

CASES = (
    *quartet(
        "PostgresDown",
        {"severity": "page", "team": "data", "instance": "db-a:9187"},
        summary="PostgreSQL behind db-a:9187 does not answer its exporter",
        description="Requests that need its rows fail. Look whether the server is down or failing over.",
        dashboard="trellis-postgres",
        at="10m",
        fires={'pg_up{instance="db-a:9187"}': "1x5 0x20", 'pg_up{instance="db-b:9187"}': "1x30"},
        under={'pg_up{instance="db-a:9187"}': "1x9 0x20"},
        total={'pg_up{instance="db-a:9187"}': "0x30"},
    ),
    *quartet(
        "PostgresConnections",
        {"severity": "ticket", "team": "data", "instance": "db-a:9187"},
        summary="85% of the connections of db-a:9187 are taken",
        description="Few are left; when none is, requests fail. Look who holds them, and for how long.",
        dashboard="trellis-postgres",
        at="20m",
        fires={
            'pg_stat_database_numbackends{instance="db-a:9187",datname="trellis"}': "336x30",
            'pg_stat_database_numbackends{instance="db-a:9187",datname="postgres"}': "4x30",
            'pg_settings_max_connections{instance="db-a:9187",server="a"}': "400x30",
        },
        under={
            'pg_stat_database_numbackends{instance="db-a:9187",datname="trellis"}': "310x30",
            'pg_stat_database_numbackends{instance="db-a:9187",datname="postgres"}': "4x30",
            'pg_settings_max_connections{instance="db-a:9187",server="a"}': "400x30",
        },
        total={
            'pg_stat_database_numbackends{instance="db-a:9187",datname="trellis"}': "396x30",
            'pg_stat_database_numbackends{instance="db-a:9187",datname="postgres"}': "4x30",
            'pg_settings_max_connections{instance="db-a:9187",server="a"}': "400x30",
        },
        total_summary="100% of the connections of db-a:9187 are taken",
    ),
    *quartet(
        "PostgresConnectionsFull",
        {"severity": "page", "team": "data", "instance": "db-a:9187"},
        summary="97% of the connections of db-a:9187 are taken",
        description=("New connections are refused and requests fail. End idle ones, then find who opened them."),
        dashboard="trellis-postgres",
        at="20m",
        fires={
            'pg_stat_database_numbackends{instance="db-a:9187",datname="trellis"}': "384x30",
            'pg_stat_database_numbackends{instance="db-a:9187",datname="postgres"}': "4x30",
            'pg_settings_max_connections{instance="db-a:9187",server="a"}': "400x30",
        },
        under={
            'pg_stat_database_numbackends{instance="db-a:9187",datname="trellis"}': "360x30",
            'pg_stat_database_numbackends{instance="db-a:9187",datname="postgres"}': "4x30",
            'pg_settings_max_connections{instance="db-a:9187",server="a"}': "400x30",
        },
        total={
            'pg_stat_database_numbackends{instance="db-a:9187",datname="trellis"}': "396x30",
            'pg_stat_database_numbackends{instance="db-a:9187",datname="postgres"}': "4x30",
            'pg_settings_max_connections{instance="db-a:9187",server="a"}': "400x30",
        },
        total_summary="100% of the connections of db-a:9187 are taken",
    ),
    *quartet(
        "PostgresReplicationLag",
        {"severity": "ticket", "team": "data", "instance": "db-b:9187"},
        summary="The replica db-b:9187 is 45s behind",
        description=("Readers see old rows, or all of them go to the primary. Look at its load and its long queries."),
        dashboard="trellis-postgres",
        at="20m",
        fires={
            'pg_replication_lag_seconds{instance="db-b:9187"}': "45x30",
            'pg_replication_is_replica{instance="db-b:9187"}': "1x30",
        },
        under={
            'pg_replication_lag_seconds{instance="db-b:9187"}': "29x30",
            'pg_replication_is_replica{instance="db-b:9187"}': "1x30",
        },
        total={
            'pg_replication_lag_seconds{instance="db-b:9187"}': "7200x30",
            'pg_replication_is_replica{instance="db-b:9187"}': "1x30",
        },
        total_summary="The replica db-b:9187 is 2h 0m 0s behind",
    ),
    *quartet(
        "PostgresReplicaMissing",
        {"severity": "ticket", "team": "data"},
        summary="1 read replicas answer",
        description=("There should be 2. The others carry its readers, and a failover has fewer to choose from."),
        dashboard="trellis-postgres",
        at="20m",
        fires={
            'pg_replication_is_replica{instance="db-a:9187"}': "0x30",
            'pg_replication_is_replica{instance="db-b:9187"}': "1x30",
            'pg_up{instance="db-a:9187"}': "1x30",
        },
        under={
            'pg_replication_is_replica{instance="db-a:9187"}': "0x30",
            'pg_replication_is_replica{instance="db-b:9187"}': "1x30",
            'pg_replication_is_replica{instance="db-c:9187"}': "1x30",
            'pg_up{instance="db-a:9187"}': "1x30",
        },
        total={'pg_replication_is_replica{instance="db-a:9187"}': "0x30", 'pg_up{instance="db-a:9187"}': "1x30"},
        total_summary="0 read replicas answer",
    ),
    *quartet(
        "PostgresSlotUnread",
        {"severity": "ticket", "team": "data", "instance": "db-a:9187", "slot_name": "standby"},
        summary="The slot standby of db-a:9187 keeps 16GiB of log",
        description=("Its reader is gone or slow, and the log fills the disk. Bring the reader back or drop the slot."),
        dashboard="trellis-postgres",
        at="20m",
        fires={'pg_replication_slots_pg_wal_lsn_diff{instance="db-a:9187",slot_name="standby"}': "17179869184x30"},
        under={'pg_replication_slots_pg_wal_lsn_diff{instance="db-a:9187",slot_name="standby"}': "9663676416x30"},
        total={'pg_replication_slots_pg_wal_lsn_diff{instance="db-a:9187",slot_name="standby"}': "68719476736x30"},
        total_summary="The slot standby of db-a:9187 keeps 64GiB of log",
    ),
    *quartet(
        "PostgresDeadlocks",
        {"severity": "ticket", "team": "data", "instance": "db-a:9187", "datname": "trellis"},
        summary="15 deadlocks in a quarter of an hour in trellis",
        description=(
            "PostgreSQL ended one transaction of each. Its log names the statements: two of them lock in turn."
        ),
        dashboard="trellis-postgres",
        at="40m",
        fires={'pg_stat_database_deadlocks{instance="db-a:9187",datname="trellis"}': "0+1x60"},
        under={'pg_stat_database_deadlocks{instance="db-a:9187",datname="trellis"}': "0+0.1x60"},
        total={'pg_stat_database_deadlocks{instance="db-a:9187",datname="trellis"}': "0+10x60"},
        total_summary="150 deadlocks in a quarter of an hour in trellis",
    ),
    *quartet(
        "PostgresLongTransaction",
        {"severity": "ticket", "team": "data", "instance": "db-a:9187", "datname": "trellis"},
        summary="A transaction in trellis is 40m 0s old",
        description=(
            "It holds locks and keeps dead rows from being removed. Find it in pg_stat_activity and its owner."
        ),
        dashboard="trellis-postgres",
        at="20m",
        fires={
            (
                'pg_stat_activity_max_tx_duration{instance="db-a:9187",datname="trellis",state="idle in transaction"}'
            ): "2400x30"
        },
        under={
            (
                'pg_stat_activity_max_tx_duration{instance="db-a:9187",datname="trellis",state="idle in transaction"}'
            ): "1700x30"
        },
        total={
            (
                'pg_stat_activity_max_tx_duration{instance="db-a:9187",datname="trellis",state="idle in transaction"}'
            ): "86400x30"
        },
        total_summary="A transaction in trellis is 1d 0h 0m 0s old",
    ),
    *quartet(
        "PostgresWraparound",
        {"severity": "ticket", "team": "data", "instance": "db-a:9187", "datname": "trellis"},
        summary="trellis is 1.2G transactions from its last freeze",
        description=("At 2 billion the server stops taking writes. Look for what keeps autovacuum from freezing."),
        dashboard="trellis-postgres",
        at="20m",
        fires={
            ('pg_database_wraparound_age_datfrozenxid_seconds{instance="db-a:9187",datname="trellis"}'): "1200000000x30"
        },
        under={
            ('pg_database_wraparound_age_datfrozenxid_seconds{instance="db-a:9187",datname="trellis"}'): "900000000x30"
        },
        total={
            ('pg_database_wraparound_age_datfrozenxid_seconds{instance="db-a:9187",datname="trellis"}'): "2000000000x30"
        },
        total_summary="trellis is 2G transactions from its last freeze",
    ),
    *quartet(
        "PostgresBackupOld",
        {"severity": "ticket", "team": "data", "instance": "db-a:9187"},
        summary="The last archived log of db-a:9187 is 2h 0m 0s old",
        description="What was written since cannot be restored. Look at the archiver and its errors.",
        dashboard="trellis-postgres",
        at="20m",
        fires={
            'pg_stat_archiver_last_archive_age{instance="db-a:9187"}': "7200x30",
            'pg_replication_is_replica{instance="db-a:9187"}': "0x30",
        },
        under={
            'pg_stat_archiver_last_archive_age{instance="db-a:9187"}': "3500x30",
            'pg_replication_is_replica{instance="db-a:9187"}': "0x30",
            'pg_stat_archiver_last_archive_age{instance="db-b:9187"}': "9000x30",
            'pg_replication_is_replica{instance="db-b:9187"}': "1x30",
        },
        total={
            'pg_stat_archiver_last_archive_age{instance="db-a:9187"}': "864000x30",
            'pg_replication_is_replica{instance="db-a:9187"}': "0x30",
        },
        total_summary="The last archived log of db-a:9187 is 10d 0h 0m 0s old",
    ),
    *quartet(
        "PostgresArchiveFailing",
        {"severity": "ticket", "team": "data", "instance": "db-a:9187"},
        summary="db-a:9187 cannot archive its log",
        description="Backups stop at the last archived log, and the logs that wait fill the disk.",
        dashboard="trellis-postgres",
        at="40m",
        fires={
            'pg_stat_archiver_failed_count{instance="db-a:9187"}': "0x20 0+1x40",
            'pg_replication_is_replica{instance="db-a:9187"}': "0x60",
        },
        under={
            'pg_stat_archiver_failed_count{instance="db-a:9187"}': "7x60",
            'pg_replication_is_replica{instance="db-a:9187"}': "0x60",
        },
        total={
            'pg_stat_archiver_failed_count{instance="db-a:9187"}': "0+60x60",
            'pg_replication_is_replica{instance="db-a:9187"}': "0x60",
        },
    ),
    *quartet(
        "PostgresDiskFilling",
        {"severity": "ticket", "team": "data", "instance": "db-a:9187"},
        summary="85% of the disk of db-a:9187 is taken",
        description="It has 50 GiB; a full disk stops all writes. Find what grew, then enlarge it.",
        dashboard="trellis-postgres",
        at="20m",
        fires={
            'pg_database_size_bytes{instance="db-a:9187",datname="trellis"}': "42949672960x30",
            'pg_wal_size_bytes{instance="db-a:9187"}': "2684354560x30",
        },
        under={
            'pg_database_size_bytes{instance="db-a:9187",datname="trellis"}': "39728447488x30",
            'pg_wal_size_bytes{instance="db-a:9187"}': "2684354560x30",
        },
        total={
            'pg_database_size_bytes{instance="db-a:9187",datname="trellis"}': "48318382080x30",
            'pg_wal_size_bytes{instance="db-a:9187"}': "5368709120x30",
        },
        total_summary="100% of the disk of db-a:9187 is taken",
        sets=["small"],
    ),
    *quartet(
        "PostgresDiskFilling",
        {"severity": "ticket", "team": "data", "instance": "db-a:9187"},
        summary="85% of the disk of db-a:9187 is taken",
        description="It has 200 GiB; a full disk stops all writes. Find what grew, then enlarge it.",
        dashboard="trellis-postgres",
        at="20m",
        fires={
            'pg_database_size_bytes{instance="db-a:9187",datname="trellis"}': "171798691840x30",
            'pg_wal_size_bytes{instance="db-a:9187"}': "10737418240x30",
        },
        under={
            'pg_database_size_bytes{instance="db-a:9187",datname="trellis"}': "158913789952x30",
            'pg_wal_size_bytes{instance="db-a:9187"}': "10737418240x30",
        },
        total={
            'pg_database_size_bytes{instance="db-a:9187",datname="trellis"}': "193273528320x30",
            'pg_wal_size_bytes{instance="db-a:9187"}': "21474836480x30",
        },
        total_summary="100% of the disk of db-a:9187 is taken",
        sets=["medium"],
    ),
)
