"""The servers that the tests start are what a deployment has, and fail the way that a test asks for."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.support.pgbouncer import running_pgbouncer
from tests.support.postgres import open_server, until
from tests.support.processes import ROOT, ended, wait_until
from tests.support.redis import running_cluster
from tests.support.servers import Backends, Servers
from tests.support.wire import Wire

PATIENCE_S, SILENCE_S = 30.0, 0.3


def ask(address: str, query: str) -> object:
    url = make_url(address).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, prepare_threshold=None, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchone()[0]


def test_settings_name_both_servers_behind_poolers_with_a_login_that_policies_hold(
    server_settings: Backends, servers: Servers
) -> None:
    rights = "SELECT concat(rolname, rolsuper, rolbypassrls) FROM pg_roles WHERE rolname = current_user"
    owned = "SELECT count(*) FROM pg_tables WHERE tableowner = current_user"
    for name in ("database_url", "database_reader_url", "database_direct_url"):
        assert ask(server_settings[name], rights) == "trellis_apiff"
        assert ask(server_settings[name], owned) == 0
    replica = [name for name in server_settings if name.endswith("_url") and "postgresql" in server_settings[name]]
    assert [ask(server_settings[name], "SELECT pg_is_in_recovery()") for name in sorted(replica)] == [
        False,
        False,
        True,
        False,
    ]
    assert ask(server_settings["database_owner_url"], owned) > 50
    assert "trellis_api" in servers.pooler.log


def test_a_copied_database_has_the_tables_and_nothing_of_another_test(servers: Servers) -> None:
    with servers.settings() as first, servers.settings() as second:
        write = "INSERT INTO tenants (id, name, created_at) VALUES ('one', 'One', now()) RETURNING id"
        assert ask(first["database_owner_url"], write) == "one"
        assert ask(first["database_url"], "SELECT count(*) FROM tenants") == 1
        assert ask(second["database_url"], "SELECT count(*) FROM tenants") == 0


def test_a_standby_pauses_and_takes_over_with_every_commit_when_the_primary_is_killed() -> None:
    with open_server(fast=False) as primary, primary.replica(synchronous=True) as standby:
        primary.do("CREATE TABLE kept (number int)", "INSERT INTO kept VALUES (1)")
        standby.catch_up()
        standby.pause_replay()
        primary.do("INSERT INTO kept VALUES (2)")
        assert standby.scalar("SELECT count(*) FROM kept") == 1
        standby.resume_replay()
        standby.catch_up()
        assert standby.scalar("SELECT count(*) FROM kept") == 2
        with running_pgbouncer(primary.port) as pooler:
            primary.do("INSERT INTO kept VALUES (3)")
            primary.kill()
            with pytest.raises(psycopg.OperationalError):
                primary.connect()
            with pytest.raises(psycopg.OperationalError):
                ask(pooler.url("postgres"), "SELECT 1")
        standby.promote()
        standby.do("INSERT INTO kept VALUES (4)")
        assert standby.scalar("SELECT array_agg(number ORDER BY number) FROM kept") == [1, 2, 3, 4]
        primary.start()
        assert primary.scalar("SELECT count(*) FROM kept") == 3


def test_a_killed_master_of_the_cluster_is_replaced_with_its_keys(tmp_path: Path) -> None:
    with running_cluster(tmp_path, replicas=1) as cluster:
        keys = [key for key in map(str, range(30)) if slot(cluster.masters[0].client(), key) < 16_384 // 3]
        for key in keys:
            cluster.masters[0].client().set(key, "here")
        until(lambda: cluster.replicas[0].client().dbsize() == len(keys), "the replica does not have them")
        cluster.failover(0)
        assert [cluster.replicas[0].client().get(key) for key in keys] == ["here"] * len(keys)


def slot(client: object, key: str) -> int:
    return client.execute_command("CLUSTER KEYSLOT", key)


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says what it hears, in another process."""
    program = """
        import socketserver
        class Echo(socketserver.BaseRequestHandler):
            def handle(self):
                while said := self.request.recv(100):
                    self.request.sendall(said)
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
            print(server.server_address[1], flush=True)
            server.serve_forever()
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE) as process:
        yield int(process.stdout.readline())
        process.kill()


def connected(wire: Wire) -> socket.socket:
    return socket.create_connection(("127.0.0.1", wire.port), timeout=PATIENCE_S)


def said(connection: socket.socket) -> bytes:
    connection.sendall(b"hello")
    return connection.recv(100)


def silent(connection: socket.socket) -> bool:
    connection.settimeout(SILENCE_S)
    with pytest.raises(TimeoutError):
        said(connection)
    connection.settimeout(PATIENCE_S)
    return True


def test_a_wire_is_slow_silent_cut_and_mended(echo: int) -> None:
    with Wire(echo) as wire:
        connection = connected(wire)
        assert said(connection) == b"hello"
        wire.delay(0.1)
        began = time.monotonic()
        assert said(connection) == b"hello"
        assert time.monotonic() - began >= 0.2
        wire.heal()
        wire.stall()
        assert silent(connection)
        with connected(wire) as another:
            assert silent(another)
        wire.heal()
        assert connection.recv(100) == b"hello"
        wire.cut()
        with pytest.raises(ConnectionResetError):
            said(connection)
        with pytest.raises(ConnectionRefusedError):
            connected(wire)
        wire.heal()
        with connected(wire) as another:
            assert said(another) == b"hello"


def test_servers_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    program = f"""
        import signal, subprocess, time
        from pathlib import Path
        from tests.support import guard
        folder = Path({str(tmp_path)!r}) / "server"
        folder.mkdir()
        own = subprocess.Popen(["sleep", "600"])
        guard.hold(own, signal.SIGTERM)
        print(guard.start(["sleep", 600], folder).pid, own.pid, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, stdout=subprocess.PIPE) as run:
        servers = [int(pid) for pid in run.stdout.readline().split()]
        for server in servers:
            os.kill(server, 0)
        run.kill()
    for server in servers:
        wait_until(ended(server), "the server ends with its run")
    wait_until(lambda: not (tmp_path / "server").exists(), "its folder is removed")


def test_what_was_let_go_is_left_alone(tmp_path: Path) -> None:
    program = """
        import signal, subprocess
        from tests.support import guard
        own = [subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL) for _ in range(2)]
        for process in own:
            guard.hold(process, signal.SIGTERM)
        guard.let_go(own[0])
        print(*(process.pid for process in own), flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    let_go, held = (int(pid) for pid in run.stdout.split())
    try:
        wait_until(ended(held), "the one that is held ends")
        assert not ended(let_go)()
    finally:
        os.kill(let_go, signal.SIGKILL)
