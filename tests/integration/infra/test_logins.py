"""The step before a migration: the login that the app serves with, made by one who may only manage roles."""

import base64
import hashlib
import hmac
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from infra.kubernetes.logins import ensure
from tests.support.postgres import PostgresServer

_MANAGER, _LOGIN = "login_manager", "login_that_serves"


@pytest.fixture
def manager(postgres_server: PostgresServer) -> Iterator[psycopg.Connection]:
    """As the master of RDS: no superuser, with CREATEROLE."""
    postgres_server.do(f"CREATE ROLE {_MANAGER} LOGIN CREATEROLE")
    address = postgres_server.url("postgres", _MANAGER).replace("+asyncpg", "")
    with psycopg.connect(address, autocommit=True) as connection:
        yield connection
        connection.execute(f"DROP ROLE IF EXISTS {_LOGIN}")
    postgres_server.do(f"DROP ROLE {_MANAGER}")


def _accepts(server: PostgresServer, password: str) -> bool:
    """Whether the stored verifier is of this password (RFC 5802, section 3)."""
    stored = server.scalar(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{_LOGIN}'")
    kind, rounds, keys = stored.split("$")
    assert kind == "SCRAM-SHA-256"
    count, _, salt = rounds.partition(":")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(count))
    client = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return base64.b64encode(client).decode() == str(keys).partition(":")[0]


def test_the_login_is_made_once_and_takes_its_newest_password(
    manager: psycopg.Connection, postgres_server: PostgresServer
) -> None:
    assert ensure(manager, _LOGIN, "first")
    assert _accepts(postgres_server, "first")
    assert not ensure(manager, _LOGIN, "sec'ond")
    assert _accepts(postgres_server, "sec'ond")
    assert not _accepts(postgres_server, "first")


def test_the_login_is_nobody_special(manager: psycopg.Connection, postgres_server: PostgresServer) -> None:
    ensure(manager, _LOGIN, "word")
    address = postgres_server.url("postgres", _LOGIN).replace("+asyncpg", "")
    with psycopg.connect(address, autocommit=True) as served, pytest.raises(InsufficientPrivilege):
        served.execute("CREATE ROLE another")


def test_no_statement_has_the_password(manager: psycopg.Connection) -> None:
    """Statements end up in the server's log; what it last saw of this session is in its view of activity."""
    ensure(manager, _LOGIN, "never-in-a-statement")
    with psycopg.connect(manager.info.dsn, autocommit=True) as other:
        row = other.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (manager.info.backend_pid,)).fetchone()
    assert row is not None
    assert _LOGIN in row[0]
    assert "SCRAM-SHA-256$" in row[0]
    assert "never-in-a-statement" not in row[0]
