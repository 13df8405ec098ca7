"""PgBouncer in transaction mode before a server of the tests: any database, few connections, ended by its process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from signal import SIGTERM
from subprocess import DEVNULL

from tests.support import guard
from tests.support.components import require
from tests.support.databases import APP, OWNER
from tests.support.postgres import USER, free_port, run_as, temporary_folder, until

POOL_SIZE = 4
_CONFIG = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
admin_users = {watcher}
stats_users = {watcher}
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
server_idle_timeout = 5
server_login_retry = 1
query_wait_timeout = 5
"""


@dataclass(frozen=True)
class PgBouncer:
    port: int
    folder: Path

    def url(self, database: str, login: str = APP) -> str:
        return f"postgresql+asyncpg://{login}@127.0.0.1:{self.port}/{database}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextmanager
def running_pgbouncer(server_port: int, *, pool_size: int = POOL_SIZE) -> Iterator[PgBouncer]:
    """One that answers, before the server on that port. `pool_size`: connections of it to one database and login."""
    program = require("pgbouncer")
    bouncer = PgBouncer(free_port(), temporary_folder("trellis-bouncer-", in_memory=True))
    users, config = bouncer.folder / "users", bouncer.folder / "config.ini"
    users.write_text("".join(f'"{login}" ""\n' for login in (APP, OWNER, USER)))
    config.write_text(
        _CONFIG.format(server=server_port, port=bouncer.port, users=users, watcher=USER, pool_size=pool_size)
    )
    for path in (users, config):
        # It runs as another user, whatever a command that ran in this process left files to be.
        path.chmod(0o644)
    with (bouncer.folder / "log").open("wb") as log:
        process = guard.start(
            [program, config], bouncer.folder, at_end=SIGTERM, stdin=DEVNULL, stdout=log, stderr=log, **run_as()
        )
    try:
        until(lambda: _answers(bouncer), "PgBouncer does not answer")
        yield bouncer
    finally:
        guard.end(process, SIGTERM)
        rmtree(bouncer.folder, ignore_errors=True)


def _answers(bouncer: PgBouncer) -> bool:
    import psycopg

    psycopg.connect(f"host=127.0.0.1 port={bouncer.port} user={USER} dbname=postgres", connect_timeout=5).close()
    return True
