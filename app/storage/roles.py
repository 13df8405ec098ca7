"""Who may do what on PostgreSQL: the app's login is held by the row policies, the tables' owner only migrates."""

from collections.abc import Collection
from dataclasses import dataclass

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import ConfigError
from app.storage.failures import NOT_ALLOWED, sqlstate

APP_ROLE = "trellis_app"
SCHEMAS = ("public", "dbos")
# What only a migration writes.
_READ_ONLY = ("alembic_version", "schema_programs", "dbos_migrations")
_ONE_AT_A_TIME = 0x7472656C
_log = structlog.get_logger(__name__)


async def grant(engine: AsyncEngine, *logins: str | None) -> None:
    """Lets the group role `trellis_app`, and so these logins, read and write all tables of ours, present and future.

    Run with the owner's login after each migration; a second run changes nothing. Nothing on SQLite, and a login that
    is None or the owner itself needs nothing.

    Raises ConfigError where the owner may not, with the SQL for one who may.
    """
    if engine.dialect.name != "postgresql":
        return
    async with engine.begin() as connection:
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({_ONE_AT_A_TIME})"))
        await _ensure_role(connection)
        await _grant_tables(connection)
        owner = await connection.scalar(text("SELECT current_user"))
        for login in sorted({login for login in logins if login and login != owner}):
            await _join(connection, login)


async def _ensure_role(connection: AsyncConnection) -> None:
    found = await connection.scalar(text("SELECT true FROM pg_roles WHERE rolname = :role"), {"role": APP_ROLE})
    if not found:
        await _allowed(connection, f"CREATE ROLE {APP_ROLE} NOLOGIN")


async def _join(connection: AsyncConnection, login: str) -> None:
    known = await connection.scalar(text("SELECT true FROM pg_roles WHERE rolname = :login"), {"login": login})
    if not known:
        raise ConfigError(
            f"PostgreSQL has no login '{login}', which the app connects with: "
            f"run CREATE ROLE {_quoted(connection, login)} LOGIN PASSWORD '...'; as an administrator."
        )
    member = text("SELECT pg_has_role(CAST(:login AS name), CAST(:role AS name), 'USAGE')")
    if not await connection.scalar(member, {"login": login, "role": APP_ROLE}):
        await _allowed(connection, f"GRANT {APP_ROLE} TO {_quoted(connection, login)}")


async def _allowed(connection: AsyncConnection, statement: str) -> None:
    try:
        await connection.execute(text(statement))
    except DBAPIError as error:
        if sqlstate(error) != NOT_ALLOWED:
            raise
        raise ConfigError(
            f"The database login '{connection.engine.url.username}' may not manage roles: "
            f"run {statement}; as an administrator (or give it CREATEROLE), then `trellis migrate` again."
        ) from error


async def _grant_tables(connection: AsyncConnection) -> None:
    for schema in SCHEMAS:
        if not await connection.scalar(
            text("SELECT to_regnamespace(CAST(:schema AS text)) IS NOT NULL"), {"schema": schema}
        ):
            continue
        await connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {APP_ROLE}"))
        for query in (_GRANTS, _TAKEN_BACK):
            found = await connection.scalars(query, {"schema": schema, "read_only": list(_READ_ONLY)})
            for statement in found.all():
                await connection.execute(text(statement))
        for what in ("SELECT, INSERT, UPDATE, DELETE ON TABLES", "USAGE, SELECT ON SEQUENCES", "EXECUTE ON FUNCTIONS"):
            future = f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT {what} TO {APP_ROLE}"
            await connection.execute(text(future))


def _quoted(connection: AsyncConnection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)


# Only what the owner has: an extension's views and functions in the same schema are somebody else's to give.
_GRANTS = text(f"""
SELECT format('GRANT %s ON %s %s TO {APP_ROLE}', rights, kind, string_agg(name, ', ')) FROM (
    SELECT CASE WHEN relkind = 'S' THEN 'USAGE, SELECT'
                WHEN relname = ANY(:read_only) THEN 'SELECT' ELSE 'SELECT, INSERT, UPDATE, DELETE' END AS rights,
           CASE WHEN relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
           format('%I.%I', CAST(:schema AS text), relname) AS name
    FROM pg_class
    WHERE relnamespace = to_regnamespace(CAST(:schema AS text)) AND relkind IN ('r', 'p', 'v', 'm', 'S')
        AND pg_has_role(relowner, 'USAGE')
    UNION ALL
    SELECT 'EXECUTE', 'FUNCTION', oid::regprocedure::text
    FROM pg_proc
    WHERE pronamespace = to_regnamespace(CAST(:schema AS text)) AND prokind = 'f' AND pg_has_role(proowner, 'USAGE')
) AS ours GROUP BY rights, kind
""")  # noqa: S608 - constants


# A table that was made after an earlier grant has all that is given to future ones.
_TAKEN_BACK = text(f"""
SELECT format('REVOKE INSERT, UPDATE, DELETE ON %I.%I FROM {APP_ROLE}', CAST(:schema AS text), relname) FROM pg_class
WHERE relnamespace = to_regnamespace(CAST(:schema AS text)) AND relkind = 'r' AND relname = ANY(:read_only)
    AND pg_has_role(relowner, 'USAGE')
""")  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a login is on this server. `above`: a role that no row policy holds and that it is, or may become."""

    login: str
    above: str | None
    owns: int
    lacks: str | None

    def fault(self) -> str | None:
        if self.above == self.login:
            return f"The database login '{self.login}' is a superuser or has BYPASSRLS: no row policy holds it."
        if self.above:
            return f"The database login '{self.login}' may become '{self.above}', which no row policy holds."
        if self.owns:
            return f"The database login '{self.login}' owns the tables, so it may switch the row policies off."
        return None


async def check(engine: AsyncEngine, logins: Collection[str | None] = (), *, strict: bool) -> None:
    """Looks at the login of `engine` and at `logins`, which the app uses elsewhere on the same servers.

    With `strict` a login that the row policies do not hold is refused (ConfigError); else it is logged, once.
    A login without rights on our tables is refused in any case. Nothing on SQLite.
    """
    if engine.dialect.name != "postgresql":
        return
    async with engine.connect() as connection:
        names = {str(await connection.scalar(text("SELECT current_user"))), *filter(None, logins)}
        rows = (await connection.execute(_STANDING, {"logins": sorted(names), "read_only": list(_READ_ONLY)})).all()
    for standing in (_Standing(*row) for row in rows):
        if standing.lacks is not None:
            raise ConfigError(
                f"The database login '{standing.login}' may not use {standing.lacks}: "
                "run `trellis migrate` with the owner's login (TRELLIS_DATABASE_OWNER_URL)."
            )
        fault = standing.fault()
        if fault and strict:
            raise ConfigError(
                f"{fault} Production takes a login of its own: CREATE ROLE trellis_api LOGIN PASSWORD '...'; name it "
                "in TRELLIS_DATABASE_URL, the present one in TRELLIS_DATABASE_OWNER_URL, and run `trellis migrate`."
            )
        if fault:
            _log.warning("database.login", fault=fault)


_STANDING = text("""
SELECT login.rolname,
    (SELECT above.rolname FROM pg_roles above
        WHERE (above.rolsuper OR above.rolbypassrls) AND pg_has_role(login.oid, above.oid, 'MEMBER')
        ORDER BY above.oid = login.oid DESC LIMIT 1),
    (SELECT count(*) FROM pg_class
        WHERE relnamespace = to_regnamespace('public') AND relrowsecurity
            AND pg_has_role(login.oid, relowner, 'MEMBER')),
    (SELECT format('%I.%I', nspname, relname) FROM pg_class AS ours JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname IN ('public', 'dbos') AND relkind IN ('r', 'p')
            AND relowner = (SELECT relowner FROM pg_class WHERE oid = to_regclass('public.alembic_version'))
            AND NOT (has_schema_privilege(login.oid, nspname, 'USAGE')
                AND has_table_privilege(login.oid, ours.oid, 'SELECT')
                AND (login.rolname <> current_user OR relname = ANY(:read_only)
                    OR (has_table_privilege(login.oid, ours.oid, 'INSERT')
                        AND has_table_privilege(login.oid, ours.oid, 'UPDATE')
                        AND has_table_privilege(login.oid, ours.oid, 'DELETE'))))
        ORDER BY relname LIMIT 1)
FROM pg_roles login WHERE login.rolname = ANY(:logins) ORDER BY login.rolname
""")
