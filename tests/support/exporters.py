"""Real exporters before the tests' servers, and what they expose. Each is started, asked once and ended."""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support import guard
from tests.support.components import require
from tests.support.pgbouncer import running_pgbouncer
from tests.support.postgres import USER, Node, free_port, open_server
from tests.support.redis import running, running_cluster

PATIENCE_S: Final = 120.0
QUERIES: Final = Path(__file__).parent.parent.parent / "provisioning" / "prometheus" / "postgres_queries.yaml"
"""For a postgres_exporter that lacks the collectors: the same figures under the same names."""
COLLECTORS: Final = (
    "--collector.database_wraparound",
    "--collector.long_running_transactions",
    "--collector.stat_wal_receiver",
)
# What the machine is made of is its own business: only what rules and panels look at.
_NODE: Final = (
    *("cpu", "meminfo", "filesystem", "diskstats", "loadavg", "netdev", "time", "timex", "filefd", "vmstat", "stat"),
    *("netstat", "sockstat", "pressure"),
)
_RULES: Final = "groups: [{name: example, rules: [{record: 'example:up:sum', expr: 'sum(up)'}]}]\n"
_SCRAPES: Final = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yaml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]}}
scrape_configs: [{{job_name: prometheus, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""
_ROUTES: Final = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
Capture = Callable[[Path, Mapping[str, Path]], Iterator[str]]


def ask(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def until_it_says(port: int, wanted: str, path: str = "/metrics") -> str:
    """The exposition as soon as it holds `wanted`. Raises RuntimeError where it does not in time."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            text = ask(port, path)
            if wanted in text:
                return text
        except (urllib.error.URLError, OSError):
            pass
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {wanted} on port {port}")
        time.sleep(0.05)


@contextmanager
def exporting(command: Sequence[Any], folder: Path, **how: Any) -> Iterator[None]:
    """The program while it runs; what it says goes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{Path(command[0]).name}.log").open("ab") as log:
        process = guard.start(list(command), folder, stdout=log, stderr=log, cwd=folder, **how)
    try:
        yield
    finally:
        guard.end(process)


def program_of(name: str, programs: Mapping[str, Path]) -> Path:
    """Raises as `require` does where it is nowhere."""
    return programs[name] if name in programs else require(name)


def postgres(folder: Path, programs: Mapping[str, Path]) -> Iterator[str]:
    """Of a primary with a slot, and of its replica."""
    program = program_of("postgres_exporter", programs)
    with open_server() as primary:
        primary.do("SELECT pg_create_physical_replication_slot('example', true)", "CREATE TABLE example (id int)")
        with primary.replica() as standby:
            for server in (primary, standby):
                yield _of_postgres(program, server, folder)


def _of_postgres(program: Path, server: Node, folder: Path) -> str:
    port = free_port()
    where = f"postgresql://{USER}@127.0.0.1:{server.port}/postgres?sslmode=disable"
    command = [program, f"--web.listen-address=127.0.0.1:{port}", *asking_for_all(program)]
    with exporting(command, folder, env={"DATA_SOURCE_NAME": where}):
        return until_it_says(port, "pg_up 1")


def asking_for_all(program: Path) -> Sequence[str]:
    """What a postgres_exporter of this age is started with so that it tells all that boards and rules look at."""
    told = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    has_collectors = "database_wraparound" in told.stdout + told.stderr
    return COLLECTORS if has_collectors else (f"--extend.query-path={QUERIES}",)


def pgbouncer(folder: Path, programs: Mapping[str, Path]) -> Iterator[str]:
    import psycopg

    port = free_port()
    with open_server() as server, running_pgbouncer(server.port) as bouncer:
        where = f"postgres://{USER}@127.0.0.1:{bouncer.port}/pgbouncer?sslmode=disable"
        command = [programs["pgbouncer_exporter"], f"--pgBouncer.connectionString={where}"]
        client = psycopg.connect(f"host=127.0.0.1 port={bouncer.port} user={USER} dbname=postgres")
        with exporting([*command, f"--web.listen-address=127.0.0.1:{port}"], folder), client:
            yield until_it_says(port, "pgbouncer_up 1")


def redis(folder: Path, programs: Mapping[str, Path]) -> Iterator[str]:
    """Of a server with a replica, of the replica, and of a master and a replica of a cluster."""
    program = program_of("redis_exporter", programs)
    with ExitStack() as stack:
        single = stack.enter_context(running(folder / "single", "--repl-diskless-sync-delay", "0"))
        following = ("--replicaof", f"127.0.0.1 {single.port}")
        replica = stack.enter_context(running(folder / "replica", *following))
        cluster = stack.enter_context(running_cluster(folder / "cluster", replicas=1))
        single.client().set("example", "1")
        for server in (single, replica, cluster.masters[0], cluster.replicas[0]):
            port = free_port()
            command = [program, "-redis.addr", f"redis://127.0.0.1:{server.port}"]
            with exporting([*command, "-web.listen-address", f"127.0.0.1:{port}"], folder):
                yield until_it_says(port, "redis_up 1")


def node(folder: Path, programs: Mapping[str, Path]) -> Iterator[str]:
    port = free_port()
    kinds = [f"--collector.{kind}" for kind in _NODE]
    only_root = "--collector.filesystem.mount-points-exclude=^/.+"
    command = [program_of("node_exporter", programs), "--collector.disable-defaults", *kinds, only_root]
    with exporting([*command, f"--web.listen-address=127.0.0.1:{port}"], folder):
        yield until_it_says(port, "node_time_seconds")


def prometheus(folder: Path, programs: Mapping[str, Path]) -> Iterator[str]:
    """Of one that scrapes itself, has a rule, and an Alertmanager that is not there."""
    port = free_port()
    (folder / "rules.yaml").write_text(_RULES)
    (folder / "prometheus.yaml").write_text(_SCRAPES.format(port=port))
    command = [program_of("prometheus", programs), f"--config.file={folder / 'prometheus.yaml'}"]
    where = [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with exporting([*command, *where], folder):
        until_it_says(port, 'prometheus_target_interval_length_seconds{interval="1s"')
        yield until_it_says(port, 'prometheus_rule_group_last_duration_seconds{rule_group="')


def alertmanager(folder: Path, programs: Mapping[str, Path]) -> Iterator[str]:
    port = free_port()
    (folder / "alertmanager.yaml").write_text(_ROUTES)
    command = [program_of("alertmanager", programs), f"--config.file={folder / 'alertmanager.yaml'}"]
    alone = [f"--storage.path={folder / 'data'}", f"--cluster.listen-address=127.0.0.1:{free_port()}"]
    with exporting([*command, *alone, f"--web.listen-address=127.0.0.1:{port}"], folder):
        yield until_it_says(port, "alertmanager_config_last_reload_successful 1")


@dataclass(frozen=True)
class Exporter:
    """`program`: its name among the components. `before`: what it was asked about."""

    program: str
    before: str
    expositions: Capture

    def capture(self, folder: Path, programs: Mapping[str, Path]) -> str:
        """What it says of each server, one exposition after the other. `programs`: those that are not on PATH."""
        folder.mkdir(parents=True, exist_ok=True)
        return "\n".join(self.expositions(folder, programs))


EXPORTERS: Final[Mapping[str, Exporter]] = {
    "postgres": Exporter("postgres_exporter", "a PostgreSQL with a replication slot and its replica", postgres),
    "pgbouncer": Exporter("pgbouncer_exporter", "a PgBouncer (prometheus-community's exporter)", pgbouncer),
    "redis": Exporter("redis_exporter", "a Redis, its replica, a master and a replica of a cluster", redis),
    "node": Exporter("node_exporter", "a machine", node),
    "prometheus": Exporter("prometheus", "itself, with a rule and an Alertmanager that is away", prometheus),
    "alertmanager": Exporter("alertmanager", "itself", alertmanager),
}
INSTALLED: Final = ("postgres", "redis", "node", "prometheus", "alertmanager")
"""Jobs whose program the system's packages have. (Debian's pgbouncer exporter is another one, with other names.)"""
