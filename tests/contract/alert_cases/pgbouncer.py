"""PgBouncer."""

from tests.support.alert_quartets import quartet

CASES = (
    *quartet(
        "PgBouncersDown",
        {"severity": "page", "team": "data"},
        summary="No PgBouncer answers",
        description="Nothing reaches the database, whatever its own state: requests that need rows fail.",
        dashboard="trellis-postgres",
        at="10m",
        fires={'pgbouncer_up{instance="pool-a:9127"}': "1x5 0x20", 'pgbouncer_up{instance="pool-b:9127"}': "1x4 0x20"},
        under={'pgbouncer_up{instance="pool-a:9127"}': "0x20", 'pgbouncer_up{instance="pool-b:9127"}': "1x20"},
        total={'pgbouncer_up{instance="pool-a:9127"}': "0x20"},
    ),
    *quartet(
        "PgBouncerDown",
        {"severity": "ticket", "team": "data", "instance": "pool-a:9127"},
        summary="The PgBouncer behind pool-a:9127 does not answer its exporter",
        description="The others carry its connections.",
        dashboard="trellis-postgres",
        at="15m",
        fires={'pgbouncer_up{instance="pool-a:9127"}': "1x5 0x20", 'pgbouncer_up{instance="pool-b:9127"}': "1x20"},
        under={'pgbouncer_up{instance="pool-a:9127"}': "1x12 0x20"},
        total={'pgbouncer_up{instance="pool-a:9127"}': "0x20"},
    ),
    *quartet(
        "PgBouncerWaiting",
        {"severity": "ticket", "team": "data", "instance": "pool-a:9127", "database": "trellis"},
        summary="Clients of trellis wait 3s for a connection",
        description=(
            "The pool is too small for the load, or transactions hold it too long. Look at the oldest of them."
        ),
        dashboard="trellis-postgres",
        at="20m",
        fires={
            (
                'pgbouncer_pools_client_maxwait_seconds{instance="pool-a:9127",database="trellis",user="trellis_app"}'
            ): "3x30"
        },
        under={
            (
                'pgbouncer_pools_client_maxwait_seconds{instance="pool-a:9127",database="trellis",user="trellis_app"}'
            ): "0.5x30"
        },
        total={
            (
                'pgbouncer_pools_client_maxwait_seconds{instance="pool-a:9127",database="trellis",user="trellis_app"}'
            ): "120x30"
        },
        total_summary="Clients of trellis wait 2m 0s for a connection",
    ),
    *quartet(
        "PgBouncerClients",
        {"severity": "ticket", "team": "data", "instance": "pool-a:9127"},
        summary="90% of the clients that pool-a:9127 lets in are there",
        description=("The next ones are refused and their requests fail. Look which process opened so many."),
        dashboard="trellis-postgres",
        at="20m",
        fires={
            ('pgbouncer_pools_client_active_connections{instance="pool-a:9127",database="trellis",user="a"}'): "400x30",
            ('pgbouncer_pools_client_waiting_connections{instance="pool-a:9127",database="trellis",user="a"}'): "50x30",
            'pgbouncer_config_max_client_connections{instance="pool-a:9127"}': "500x30",
        },
        under={
            ('pgbouncer_pools_client_active_connections{instance="pool-a:9127",database="trellis",user="a"}'): "350x30",
            ('pgbouncer_pools_client_waiting_connections{instance="pool-a:9127",database="trellis",user="a"}'): "30x30",
            'pgbouncer_config_max_client_connections{instance="pool-a:9127"}': "500x30",
        },
        total={
            ('pgbouncer_pools_client_active_connections{instance="pool-a:9127",database="trellis",user="a"}'): "0x30",
            (
                'pgbouncer_pools_client_waiting_connections{instance="pool-a:9127",database="trellis",user="a"}'
            ): "500x30",
            'pgbouncer_config_max_client_connections{instance="pool-a:9127"}': "500x30",
        },
        total_summary="100% of the clients that pool-a:9127 lets in are there",
    ),
)
