"""The machines under everything: processor, memory, disks, network, and the PoC's SQLite with its copy."""

from typing import Final

from dashboards.src.house import Dashboard, Panel, Query, Row, board, label_variable, note, series, stat
from dashboards.src.promql import increase, rate
from infra.phases import Phase
from infra.scrapes import asks

UID: Final = "trellis-machine"
_HERE: Final = '{instance=~"$machine"}'
_DISKS: Final = '{instance=~"$machine", fstype!~"tmpfs|overlay|squashfs|ramfs"}'
_CARDS: Final = '{instance=~"$machine", device!~"lo|veth.*|cali.*|eni.*"}'


def used(phase: Phase) -> bool:
    return asks(phase, "node")


def build() -> Dashboard:
    return board(
        UID,
        "Trellis: machines",
        "Whether the machines hold: processor, memory, disks, network; and whether the copy of SQLite in S3 is fresh "
        "where the phase is one instance.",
        tags=["platform"],
        variables=[label_variable("machine", "instance", "node_boot_time_seconds")],
        rows=[
            Row("Now", _now()),
            Row("Processor and memory", _processor()),
            Row("Disks and network", _disks()),
            Row("SQLite and its copy (one instance only)", _copy()),
        ],
    )


def _now() -> list[Panel]:
    full = ((0.0, "green"), (0.8, "orange"), (0.9, "red"))
    return [
        stat(
            "Machines up",
            "Machines whose figures Prometheus reaches. Bad: fewer than there should be. Next: the cloud's console.",
            "none",
            Query('sum(up{job="node"})'),
        ),
        stat(
            "Fullest processor",
            "Share of the busiest machine's processor in use. Bad: above 90 % for long. Next: 'Processor'.",
            "percentunit",
            Query(f"max({_busy()})"),
            decimals=0,
            steps=full,
        ),
        stat(
            "Fullest memory",
            "Share of memory in use on the machine that has least left. Bad: above 90 %. Next: 'Memory left'.",
            "percentunit",
            Query(f"1 - min({_memory_left()})"),
            decimals=0,
            steps=full,
        ),
        stat(
            "Fullest disk",
            "Share of the fullest file system in use. Bad: above 90 %. Next: 'Room on disks'.",
            "percentunit",
            Query(f"1 - min({_room()})"),
            decimals=0,
            steps=full,
        ),
        stat(
            "Killed for memory",
            "Processes that the kernel killed for want of memory in the time shown. Bad: any. Next: 'Memory left'.",
            "none",
            Query(f"sum(increase(node_vmstat_oom_kill{_HERE}[$__range]))"),
            decimals=0,
            steps=((0.0, "green"), (1.0, "red")),
        ),
        stat(
            "Clock is off by",
            "The largest distance of a clock from its source. Bad: above 50 ms: traces and tokens are judged wrong. "
            "Next: chrony on that machine.",
            "s",
            Query(f"max(abs(node_timex_offset_seconds{_HERE}))"),
            steps=((0.0, "green"), (0.05, "red")),
        ),
    ]


def _busy() -> str:
    idle = _HERE[:-1] + ', mode="idle"}'
    return f"1 - avg by (instance) (rate(node_cpu_seconds_total{idle}[$__rate_interval]))"


def _memory_left() -> str:
    return f"min by (instance) (node_memory_MemAvailable_bytes{_HERE} / node_memory_MemTotal_bytes{_HERE})"


def _room() -> str:
    left = f"node_filesystem_avail_bytes{_DISKS} / node_filesystem_size_bytes{_DISKS}"
    return f"min by (instance, mountpoint) ({left})"


def _pressure(kind: str) -> str:
    return f"max(rate(node_pressure_{kind}_waiting_seconds_total{_HERE}[$__rate_interval]))"


def _processor() -> list[Panel]:
    waits = (("cpu", "processor"), ("memory", "memory"), ("io", "disk"))
    return [
        series(
            "Processor",
            "Share of each machine's processor in use. Bad: above 90 % for long: everything on it becomes slow. Next: "
            "'CPU' in trellis-api says whether it is we.",
            "percentunit",
            Query(_busy(), "{{instance}}"),
            maximum=1,
        ),
        series(
            "Memory left",
            "Share of memory that programs can still have. Bad: below 10 %: the kernel begins to kill. Next: 'Memory' "
            "in trellis-api.",
            "percentunit",
            Query(_memory_left(), "{{instance}}"),
            maximum=1,
        ),
        series(
            "Waits for the machine",
            "Share of time in which something waited for the processor, memory or a disk, on the worst machine. Bad: "
            "above 20 %. Next: the panel of what is waited for.",
            "percentunit",
            *(Query(_pressure(kind), name) for kind, name in waits),
            maximum=1,
        ),
    ]


def _disks() -> list[Panel]:
    return [
        series(
            "Room on disks",
            "Share of each file system that is free. Bad: below 10 %, or a line that reaches 0 in a day. Next: grow "
            "the volume, or delete what grew.",
            "percentunit",
            Query(_room(), "{{instance}} {{mountpoint}}"),
            maximum=1,
        ),
        series(
            "Disk in use",
            "Share of time in which a disk worked, the busiest of each machine. Bad: near 100 %: writes wait. Next: "
            "'Waits for the machine'.",
            "percentunit",
            Query(
                f"max by (instance) (rate(node_disk_io_time_seconds_total{_HERE}[$__rate_interval]))", "{{instance}}"
            ),
        ),
        series(
            "Network",
            "Bytes a second in and out of all machines. Bad: at the limit of the instance class. Next: 'Requests' in "
            "trellis-api.",
            "Bps",
            Query(rate("node_network_receive_bytes_total", where=_CARDS), "in"),
            Query(rate("node_network_transmit_bytes_total", where=_CARDS), "out"),
        ),
    ]


def _copy() -> list[Panel]:
    return [
        note("Empty where the phase has a database server: see **Trellis: PostgreSQL** for its backups.", height=2),
        series(
            "Size of SQLite",
            "The database and its write-ahead log. Bad: a log that only grows: it is not copied or not folded in. "
            "Next: 'Errors of the copy'.",
            "bytes",
            Query("sum(litestream_db_size)", "database"),
            Query("sum(litestream_wal_size)", "write-ahead log"),
        ),
        series(
            "Copied to S3",
            "Rounds of the copy a minute. Bad: none while people write: what is written now is lost with the machine. "
            "Next: the runbook of SqliteBackupStopped.",
            "opm",
            Query(f"{rate('litestream_sync_count')} * 60", "rounds"),
        ),
        series(
            "Errors of the copy",
            "Failed rounds, and failed calls of S3, in each step. Bad: any that last. Next: the runbook of "
            "SqliteBackupErrors.",
            "short",
            Query(increase("litestream_sync_error_count", window="$__rate_interval"), "rounds"),
            Query(increase("litestream_replica_operation_errors_total", window="$__rate_interval"), "calls of S3"),
        ),
    ]
