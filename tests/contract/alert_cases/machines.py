"""Machines and certificates."""

from tests.support.alert_quartets import quartet

CASES = (
    *quartet(
        "NodeDiskFilling",
        {"severity": "ticket", "team": "platform", "instance": "node-a:9100", "mountpoint": "/"},
        summary="/ of node-a:9100 has 10% left",
        description="Find what grew: logs, images, the data folder. Then make room or enlarge the disk.",
        dashboard="trellis-machine",
        at="20m",
        fires={
            (
                'node_filesystem_avail_bytes{instance="node-a:9100",mountpoint="/",fstype="ext4",device="/dev/vda"}'
            ): "100x40",
            (
                'node_filesystem_size_bytes{instance="node-a:9100",mountpoint="/",fstype="ext4",device="/dev/vda"}'
            ): "1000x40",
        },
        under={
            (
                'node_filesystem_avail_bytes{instance="node-a:9100",mountpoint="/",fstype="ext4",device="/dev/vda"}'
            ): "160x40",
            (
                'node_filesystem_size_bytes{instance="node-a:9100",mountpoint="/",fstype="ext4",device="/dev/vda"}'
            ): "1000x40",
            (
                'node_filesystem_avail_bytes{instance="node-a:9100",mountpoint="/run",fstype="tmpfs",device="/dev/vda"}'
            ): "0x40",
            (
                'node_filesystem_size_bytes{instance="node-a:9100",mountpoint="/run",fstype="tmpfs",device="/dev/vda"}'
            ): "1000x40",
        },
        total={
            (
                'node_filesystem_avail_bytes{instance="node-a:9100",mountpoint="/",fstype="ext4",device="/dev/vda"}'
            ): "0x40",
            (
                'node_filesystem_size_bytes{instance="node-a:9100",mountpoint="/",fstype="ext4",device="/dev/vda"}'
            ): "1000x40",
        },
        total_summary="/ of node-a:9100 has 0% left",
    ),
    *quartet(
        "NodeDiskFull",
        {"severity": "page", "team": "platform", "instance": "node-a:9100", "mountpoint": "/"},
        summary="/ of node-a:9100 has 2% left",
        description="What writes there fails in minutes; a database stops. Make room now.",
        dashboard="trellis-machine",
        at="20m",
        fires={
            (
                'node_filesystem_avail_bytes{instance="node-a:9100",mountpoint="/",fstype="ext4",device="/dev/vda"}'
            ): "20x40",
            (
                'node_filesystem_size_bytes{instance="node-a:9100",mountpoint="/",fstype="ext4",device="/dev/vda"}'
            ): "1000x40",
        },
        under={
            (
                'node_filesystem_avail_bytes{instance="node-a:9100",mountpoint="/",fstype="ext4",device="/dev/vda"}'
            ): "40x40",
            (
                'node_filesystem_size_bytes{instance="node-a:9100",mountpoint="/",fstype="ext4",device="/dev/vda"}'
            ): "1000x40",
        },
        total={
            (
                'node_filesystem_avail_bytes{instance="node-a:9100",mountpoint="/",fstype="ext4",device="/dev/vda"}'
            ): "0x40",
            (
                'node_filesystem_size_bytes{instance="node-a:9100",mountpoint="/",fstype="ext4",device="/dev/vda"}'
            ): "1000x40",
        },
        total_summary="/ of node-a:9100 has 0% left",
    ),
    *quartet(
        "NodeMemoryLow",
        {"severity": "ticket", "team": "platform", "instance": "node-a:9100"},
        summary="node-a:9100 has 5% of its memory left",
        description="The system starts to end processes when it is gone. Look which one grows.",
        dashboard="trellis-machine",
        at="30m",
        fires={
            'node_memory_MemAvailable_bytes{instance="node-a:9100"}': "50x40",
            'node_memory_MemTotal_bytes{instance="node-a:9100"}': "1000x40",
        },
        under={
            'node_memory_MemAvailable_bytes{instance="node-a:9100"}': "110x40",
            'node_memory_MemTotal_bytes{instance="node-a:9100"}': "1000x40",
        },
        total={
            'node_memory_MemAvailable_bytes{instance="node-a:9100"}': "0x40",
            'node_memory_MemTotal_bytes{instance="node-a:9100"}': "1000x40",
        },
        total_summary="node-a:9100 has 0% of its memory left",
    ),
    *quartet(
        "NodeCpuBusy",
        {"severity": "ticket", "team": "platform", "instance": "node-a:9100"},
        summary="The processors of node-a:9100 are 95% busy",
        description=("Requests wait for a turn. Look what takes it, and whether this machine carries too much."),
        dashboard="trellis-machine",
        at="50m",
        fires={
            'node_cpu_seconds_total{instance="node-a:9100",cpu="0",mode="idle"}': "0+3x60",
            'node_cpu_seconds_total{instance="node-a:9100",cpu="0",mode="user"}': "0+57x60",
        },
        under={
            'node_cpu_seconds_total{instance="node-a:9100",cpu="0",mode="idle"}': "0+9x60",
            'node_cpu_seconds_total{instance="node-a:9100",cpu="0",mode="user"}': "0+51x60",
        },
        total={
            'node_cpu_seconds_total{instance="node-a:9100",cpu="0",mode="idle"}': "0+0x60",
            'node_cpu_seconds_total{instance="node-a:9100",cpu="0",mode="user"}': "0+60x60",
        },
        total_summary="The processors of node-a:9100 are 100% busy",
    ),
    *quartet(
        "NodeClockOff",
        {"severity": "ticket", "team": "platform", "instance": "node-a:9100"},
        summary="The clock of node-a:9100 is 250ms off",
        description=("Tokens are refused, leases end early, traces do not line up. Look at its time service."),
        dashboard="trellis-machine",
        at="20m",
        fires={'node_timex_offset_seconds{instance="node-a:9100"}': "-0.25x30"},
        under={'node_timex_offset_seconds{instance="node-a:9100"}': "0.04x30"},
        total={'node_timex_offset_seconds{instance="node-a:9100"}': "60x30"},
        total_summary="The clock of node-a:9100 is 1m 0s off",
    ),
    *quartet(
        "CertificateExpiring",
        {"severity": "ticket", "team": "platform", "namespace": "trellis", "name": "tls"},
        summary="trellis/tls expires in 10d 0h 0m 0s",
        description=("cert-manager should have renewed it by now. Its events and orders tell what is in the way."),
        dashboard="trellis-kubernetes",
        at="1h30m",
        fires={
            (
                'certmanager_certificate_expiration_timestamp_seconds{namespace="trellis",'
                'name="tls",issuer_name="a",issuer_kind="b",issuer_group="c"}'
            ): "869400x100"
        },
        under={
            (
                'certmanager_certificate_expiration_timestamp_seconds{namespace="trellis",'
                'name="tls",issuer_name="a",issuer_kind="b",issuer_group="c"}'
            ): "1296000x100"
        },
        total={
            (
                'certmanager_certificate_expiration_timestamp_seconds{namespace="trellis",'
                'name="tls",issuer_name="a",issuer_kind="b",issuer_group="c"}'
            ): "5400x100"
        },
        total_summary="trellis/tls expires in 0s",
    ),
    *quartet(
        "CertificateExpiresSoon",
        {"severity": "page", "team": "platform", "namespace": "trellis", "name": "tls"},
        summary="trellis/tls expires in 1d 0h 0m 0s",
        description="After that no client connects. Renew it by hand if cert-manager cannot.",
        dashboard="trellis-kubernetes",
        at="30m",
        fires={
            (
                'certmanager_certificate_expiration_timestamp_seconds{namespace="trellis",'
                'name="tls",issuer_name="a",issuer_kind="b",issuer_group="c"}'
            ): "88200x40"
        },
        under={
            (
                'certmanager_certificate_expiration_timestamp_seconds{namespace="trellis",'
                'name="tls",issuer_name="a",issuer_kind="b",issuer_group="c"}'
            ): "259200x40"
        },
        total={
            (
                'certmanager_certificate_expiration_timestamp_seconds{namespace="trellis",'
                'name="tls",issuer_name="a",issuer_kind="b",issuer_group="c"}'
            ): "1800x40"
        },
        total_summary="trellis/tls expires in 0s",
    ),
    *quartet(
        "CertificateNotReady",
        {"severity": "ticket", "team": "platform", "namespace": "trellis", "name": "tls"},
        summary="trellis/tls is not ready",
        description=("It was not issued, or not renewed. Look at its order and challenge: usually DNS or the issuer."),
        dashboard="trellis-kubernetes",
        at="40m",
        fires={
            (
                'certmanager_certificate_ready_status{namespace="trellis",name="tls",condition="True",issuer_name="a"}'
            ): "1x5 0x50"
        },
        under={
            (
                'certmanager_certificate_ready_status{namespace="trellis",name="tls",condition="True",issuer_name="a"}'
            ): "0x8 1x50"
        },
        total={
            (
                'certmanager_certificate_ready_status{namespace="trellis",name="tls",condition="True",issuer_name="a"}'
            ): "0x50"
        },
    ),
)
