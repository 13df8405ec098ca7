"""Makes the login that the app serves with, or gives it its password anew. Mounted into the migration's pod as it is.

The password is turned into its SCRAM verifier here, so that the statement, which the server may log, does not have it.
"""

import os
from collections.abc import Mapping

import psycopg
from psycopg import sql


def main(environ: Mapping[str, str] = os.environ) -> None:
    """Who to connect as is libpq's own environment; LOGIN and LOGIN_PASSWORD say what is made."""
    with psycopg.connect("", autocommit=True, connect_timeout=10) as connection:
        made = ensure(connection, environ["LOGIN"], environ["LOGIN_PASSWORD"])
    print(f"The login {environ['LOGIN']} {'is made' if made else 'is there'}.")


def ensure(connection: psycopg.Connection, login: str, password: str) -> bool:
    """Whether it was not there before. Any number of times."""
    verifier = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()
    known = connection.execute("SELECT true FROM pg_roles WHERE rolname = %s", (login,)).fetchone()
    statement = sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
        sql.SQL("ALTER" if known else "CREATE"), sql.Identifier(login), sql.Literal(verifier)
    )
    connection.execute(statement)
    return known is None


if __name__ == "__main__":
    main()
