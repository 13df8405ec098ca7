"""The app's login on PostgreSQL: what `trellis migrate` gives it, and which logins the app starts with."""

from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app.container import Parts, migrate_database, open_container
from app.errors import ConfigError
from app.ids import new_id
from app.settings import Settings
from app.storage import roles, schema
from app.storage.db import Database

SECRET = "s" * 32


class Server:
    """Databases and logins on the session's server, made by its administrator."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)

    def run(self, *statements: str, database: str | None = None) -> None:
        url = self.url.set(drivername="postgresql", database=database or self.url.database)
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def login(self, rights: str = "") -> str:
        name = new_id("login").lower()
        self.run(f'CREATE ROLE "{name}" LOGIN {rights}')
        return name

    def owned_by(self, owner: str) -> str:
        """The address, for its owner, of a new database."""
        name = new_id("db")
        self.run(f'CREATE DATABASE "{name}" OWNER "{owner}"')
        return self.as_login(owner, name)

    def as_login(self, login: str, database: str | None) -> str:
        return self.url.set(username=login, database=database).render_as_string(hide_password=False)


@pytest.fixture
def server(postgres_url: str) -> Server:
    return Server(postgres_url)


@pytest.fixture
def owner(server: Server) -> str:
    return server.login("CREATEROLE")


@pytest.fixture
def settings(server: Server, owner: str) -> Settings:
    """The app's login and the owner's on an empty database."""
    owned = server.owned_by(owner)
    app = server.as_login(server.login(), make_url(owned).database)
    return Settings(database_url=app, database_owner_url=owned, phase="small")


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[str], Database]]:
    databases: list[Database] = []

    def opened(url: str) -> Database:
        databases.append(Database(url))
        return databases[-1]

    yield opened
    for database in databases:
        await database.close()


async def test_after_a_migration_the_app_runs_with_a_login_that_owns_nothing(settings: Settings) -> None:
    await migrate_database(settings)
    await migrate_database(settings)
    async with open_container(settings, Parts.COMMAND) as container:
        await roles.check(container.db.writer, strict=True)


async def test_a_table_of_a_later_revision_is_usable_before_the_next_grant(
    settings: Settings, server: Server, opened: Callable[[str], Database]
) -> None:
    await migrate_database(settings)
    async with opened(settings.owner_database_url).operator_transaction() as session:
        await session.execute(text("CREATE TABLE later (id bigserial PRIMARY KEY, what text)"))
    async with opened(settings.sqlalchemy_url).operator_transaction() as session:
        await session.execute(text("INSERT INTO later (what) VALUES ('x')"))
        await session.execute(text("DELETE FROM later"))


async def test_the_app_cannot_say_that_a_revision_was_run(
    settings: Settings, opened: Callable[[str], Database]
) -> None:
    await migrate_database(settings)
    with pytest.raises(Exception, match="permission denied for table alembic_version"):
        async with opened(settings.sqlalchemy_url).operator_transaction() as session:
            await session.execute(text("UPDATE alembic_version SET version_num = '0001'"))


async def test_what_only_migrations_write_stays_so_when_it_is_made_again(
    settings: Settings, opened: Callable[[str], Database]
) -> None:
    await migrate_database(settings)
    await schema.downgrade(opened(settings.owner_database_url).writer, "0004")
    await migrate_database(settings)
    with pytest.raises(Exception, match="permission denied for table schema_programs"):
        async with opened(settings.sqlalchemy_url).operator_transaction() as session:
            await session.execute(text("DELETE FROM schema_programs"))


async def test_an_owner_who_may_not_manage_roles_is_told_what_to_run(
    server: Server, opened: Callable[[str], Database]
) -> None:
    owned = server.owned_by(server.login())
    login = server.login()
    server.run("DO $$ BEGIN CREATE ROLE trellis_app NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    with pytest.raises(ConfigError, match=f'run GRANT trellis_app TO "{login}"; as an administrator'):
        await roles.grant(opened(owned).writer, login)
    server.run(f'GRANT trellis_app TO "{login}"')
    await roles.grant(opened(owned).writer, login)


async def test_a_login_that_does_not_exist_is_named(server: Server, opened: Callable[[str], Database]) -> None:
    owned = server.owned_by(server.login("CREATEROLE"))
    with pytest.raises(ConfigError, match="PostgreSQL has no login 'nobody_here'"):
        await roles.grant(opened(owned).writer, "nobody_here")


async def test_a_login_without_rights_is_refused_with_what_to_do(
    settings: Settings, opened: Callable[[str], Database]
) -> None:
    await schema.upgrade(opened(settings.owner_database_url).writer)
    with pytest.raises(ConfigError, match="may not use public"):
        await roles.check(opened(settings.sqlalchemy_url).writer, strict=False)


@pytest.mark.parametrize(
    ("rights", "said"),
    [("SUPERUSER", "is a superuser or has BYPASSRLS"), ("BYPASSRLS", "is a superuser or has BYPASSRLS")],
)
async def test_production_refuses_a_login_that_no_policy_holds(
    settings: Settings, server: Server, opened: Callable[[str], Database], rights: str, said: str
) -> None:
    await migrate_database(settings)
    server.run(f'ALTER ROLE "{make_url(settings.sqlalchemy_url).username}" {rights}')
    with pytest.raises(ConfigError, match=said):
        await roles.check(opened(settings.sqlalchemy_url).writer, strict=True)


async def test_production_refuses_the_tables_owner_and_one_who_may_become_more(
    settings: Settings, server: Server, opened: Callable[[str], Database]
) -> None:
    await migrate_database(settings)
    with pytest.raises(ConfigError, match="owns the tables"):
        await roles.check(opened(settings.owner_database_url).writer, strict=True)
    above = server.login("BYPASSRLS")
    server.run(f'GRANT "{above}" TO "{make_url(settings.sqlalchemy_url).username}"')
    with pytest.raises(ConfigError, match=f"may become '{above}'"):
        await roles.check(opened(settings.sqlalchemy_url).writer, strict=True)


async def test_the_login_of_a_replica_is_looked_at_too(
    settings: Settings, server: Server, opened: Callable[[str], Database]
) -> None:
    await migrate_database(settings)
    app = opened(settings.sqlalchemy_url).writer
    with pytest.raises(ConfigError, match="is a superuser"):
        await roles.check(app, [server.url.username], strict=True)


async def test_the_start_in_production_looks_and_development_only_says_so(settings: Settings) -> None:
    await migrate_database(settings)
    as_owner = {"database_url": settings.database_owner_url, "phase": "poc", "session_secret": SECRET}
    production = Settings(environment="production", **as_owner)
    with pytest.raises(ConfigError, match="owns the tables"):
        async with open_container(production, Parts.COMMAND):
            pytest.fail("the app started")
    with structlog.testing.capture_logs() as logs:
        db = Database(settings.owner_database_url)
        await roles.check(db.writer, strict=False)
        await db.close()
    assert [line["event"] for line in logs] == ["database.login"]


async def test_nothing_is_asked_of_the_embedded_database(db: Database) -> None:
    await roles.grant(db.writer, "anyone")
    await roles.check(db.writer, strict=True)


async def test_a_start_with_larger_pools_than_the_server_has_room_for_names_the_numbers(
    settings: Settings, server: Server
) -> None:
    await migrate_database(settings)
    server.run(f'ALTER ROLE "{make_url(settings.sqlalchemy_url).username}" CONNECTION LIMIT 9')
    with pytest.raises(ConfigError, match="may open 10 connections and PostgreSQL lets its login have 9"):
        async with open_container(settings.model_copy(update={"database_pool_size": 5}), Parts.COMMAND):
            pytest.fail("the app started")
    async with open_container(settings.model_copy(update={"database_pool_size": 4}), Parts.COMMAND):
        pass
