"""The stream of the PoC's SQLite."""

from tests.support.alert_quartets import quartet

CASES = (
    *quartet(
        "SqliteBackupOld",
        {"severity": "ticket", "team": "data"},
        summary="Nothing was copied away for an hour, and rows were written",
        description=("If this machine is lost, so are they. Look at Litestream's log and its access to the bucket."),
        dashboard="trellis-machine",
        at="2h30m",
        fires={
            'litestream_txid{db="/data/trellis.db"}': "0+1x200",
            'litestream_replica_operation_total{replica_type="s3",operation="PUT"}': "0+1x30 30x200",
        },
        under={
            'litestream_txid{db="/data/trellis.db"}': "0+1x200",
            'litestream_replica_operation_total{replica_type="s3",operation="PUT"}': "0+0.1x200",
        },
        total={
            'litestream_txid{db="/data/trellis.db"}': "0+1x200",
            'litestream_replica_operation_total{replica_type="s3",operation="PUT"}': "0x200",
        },
    ),
    *quartet(
        "SqliteBackupErrors",
        {"severity": "ticket", "team": "data", "operation": "PUT"},
        summary="15 PUT operations of the backup failed in 15 minutes",
        description=(
            "The copy in the bucket falls behind. The usual reasons: expired access, a full or a wrong bucket."
        ),
        dashboard="trellis-machine",
        at="50m",
        fires={
            (
                'litestream_replica_operation_errors_total{replica_type="s3",operation="PUT",code="AccessDenied"}'
            ): "0+1x60"
        },
        under={
            (
                'litestream_replica_operation_errors_total{replica_type="s3",operation="PUT",code="AccessDenied"}'
            ): "0+0.1x60"
        },
        total={
            (
                'litestream_replica_operation_errors_total{replica_type="s3",operation="PUT",code="AccessDenied"}'
            ): "0+60x60"
        },
        total_summary="900 PUT operations of the backup failed in 15 minutes",
    ),
    *quartet(
        "SqliteBackupStopped",
        {"severity": "ticket", "team": "data", "db": "/data/trellis.db"},
        summary="Litestream has stopped: the disk is full",
        description="Nothing is copied away until there is room again.",
        dashboard="trellis-machine",
        at="30m",
        fires={'litestream_disk_full{db="/data/trellis.db"}': "0x25 1x2 0x9"},
        under={'litestream_disk_full{db="/data/trellis.db"}': "1x5 0x40"},
        total={'litestream_disk_full{db="/data/trellis.db"}': "1x40"},
    ),
)
