"""The logins of a deployment, and a database that `trellis migrate` made once for all tests of a server."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.settings import load_settings

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

OWNER = "trellis_owner"
"""Owns the databases and the tables; no superuser."""
APP = "trellis_api"
"""The app's login: owns nothing, may go around no policy. The migration makes it a member of the app's group role."""
TEMPLATE = "trellis_template"


@dataclass(frozen=True)
class Addresses:
    """Of one database (postgresql+asyncpg), past any pooler."""

    name: str
    owner_url: str
    app_url: str


def create_logins(server: "PostgresServer") -> None:
    """As a deployment's administrator does it, once for a server."""
    server.do(
        f"CREATE ROLE {OWNER} LOGIN CREATEROLE NOSUPERUSER NOBYPASSRLS",
        f"CREATE ROLE {APP} LOGIN NOSUPERUSER NOBYPASSRLS",
    )


def make_template(server: "PostgresServer") -> str:
    """The name of a migrated database that nobody can connect to, so that it can be copied at any time."""
    # Also after a migration that failed, for the next test to say why.
    server.do(f"DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)", f"CREATE DATABASE {TEMPLATE} OWNER {OWNER}")
    _migrate(server.url(TEMPLATE, APP), server.url(TEMPLATE, OWNER))
    server.do(f"ALTER DATABASE {TEMPLATE} IS_TEMPLATE true ALLOW_CONNECTIONS false")
    return TEMPLATE


def _migrate(app_url: str, owner_url: str) -> None:
    from app.container import migrate_database  # two seconds that only those who need a template spend

    settings = load_settings({}, database_url=app_url, database_owner_url=owner_url, log_level="ERROR")
    # The fixtures are asked for inside and outside of a running loop.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, migrate_database(settings)).result()
