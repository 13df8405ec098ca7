"""The engine's tables: where they are, one pool of connections to them, and what the engine has no call for."""

import re
import sqlite3
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from dbos import DBOSClient, DBOSPortableJSONSerializer, error
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url

from app.errors import ConfigError
from app.storage.db import SQLITE_BUSY_TIMEOUT_S
from app.storage.moved import tell_moved

APP_NAME = "trellis"
SCHEMA = "dbos"
_IDLE_IN_TRANSACTION_MS = 60_000
_PAGE = 500
_ID = re.compile(r'"([a-z]+_[0-9A-Za-z]+)\\?"')
# Of asyncpg's own, which psycopg refuses.
_ASYNCPG_ONLY = ("prepared_statement_cache_size", "prepared_statement_name_func")


def engine_url(url: str) -> URL:
    """The app's async address as the synchronous one that the engine uses; raises ConfigError for another database."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise ConfigError("Durable jobs need a database file: an in-memory SQLite database cannot hold them.")
        return parsed.set(drivername="sqlite")
    if parsed.get_backend_name() == "postgresql":
        query = {name: value for name, value in parsed.query.items() if name not in _ASYNCPG_ONLY}
        if "ssl" in query:
            query["sslmode"] = query.pop("ssl")
        return parsed.set(drivername="postgresql+psycopg", query=query)
    raise ConfigError(f"Durable jobs cannot run on '{parsed.get_backend_name()}': use SQLite or PostgreSQL.")


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    # The engine relies on the driver beginning each write with BEGIN IMMEDIATE.
    connection.isolation_level = "IMMEDIATE"
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _on_postgres_connect(connection: Any, _record: Any) -> None:
    connection.execute(f"SET idle_in_transaction_session_timeout = {_IDLE_IN_TRANSACTION_MS}")
    connection.commit()


def _open_engine(url: URL, *, worker: bool, pool_size: int) -> Engine:
    """The pool of a process. A worker connects directly; one that only enqueues may be behind PgBouncer, so its
    connections keep no state (no prepared statements, no session settings). Parameters stay out of error texts, which
    the engine logs: payloads and results are among them."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url,
            pool_size=4,
            max_overflow=0,
            pool_timeout=60,
            hide_parameters=True,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_S},
        )
        event.listen(engine, "connect", _on_sqlite_connect)
        tell_moved(engine)
        return engine
    connect_args: dict[str, Any] = {"application_name": "trellis-jobs", "connect_timeout": 10}
    if not worker:
        connect_args["prepare_threshold"] = None
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=60,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args=connect_args,
    )
    if worker:
        event.listen(engine, "connect", _on_postgres_connect)
    tell_moved(engine)
    return engine


class Store:
    """The engine's tables through one pool and one client. Its methods block: call them off the event loop."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.embedded = engine.dialect.name == "sqlite"
        self._status = "workflow_status" if self.embedded else f"{SCHEMA}.workflow_status"
        self.client = DBOSClient(
            system_database_engine=engine,
            dbos_system_schema=SCHEMA,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APP_NAME,
            lazy=True,
        )

    def migrate(self) -> None:
        """Creates or upgrades the tables; on PostgreSQL one process at a time does it, under an advisory lock."""
        self.client._sys_db.run_migrations()

    def verify(self) -> None:
        """Raises ConfigError where the tables are missing or old."""
        try:
            self.client._sys_db.verify_migrations()
        except error.DBOSInitializationError as problem:
            raise ConfigError("The tables of the jobs are missing or old: run the migrations first.") from problem

    def waiting(self) -> dict[str, tuple[int, int]]:
        """For each queue with waiting jobs: how many, and when the oldest was enqueued (epoch, ms)."""
        query = text(
            f"SELECT queue_name, count(*), min(created_at) FROM {self._status} "  # noqa: S608 - a constant
            "WHERE status = 'ENQUEUED' AND queue_name IS NOT NULL GROUP BY queue_name"
        )
        with self.engine.connect() as connection:
            return {name: (int(count), int(oldest)) for name, count, oldest in connection.execute(query)}

    def finished_naming(self, ids: Collection[str]) -> list[str]:
        """The ids of finished and of waiting jobs whose payload holds one of these ids as a value."""
        schema = "" if self.embedded else f"{SCHEMA}."
        query = text(
            f"SELECT status.workflow_uuid, input.inputs FROM {schema}workflow_status AS status "  # noqa: S608 - a constant
            f"JOIN {schema}workflow_input AS input USING (workflow_uuid) WHERE status.status <> 'PENDING'"
        )
        wanted = frozenset(ids)
        with self.engine.connect().execution_options(yield_per=_PAGE) as connection:
            return [job for job, payload in connection.execute(query) if not wanted.isdisjoint(_ID.findall(payload))]

    def pending(self, executor_id: str, version: str) -> set[str]:
        """The jobs of that version that the engine believes to run on this executor."""
        query = text(
            f"SELECT workflow_uuid FROM {self._status} "  # noqa: S608 - a constant
            "WHERE status = 'PENDING' AND executor_id = :executor_id AND application_version = :version"
        )
        with self.engine.connect() as connection:
            return set(connection.scalars(query, {"executor_id": executor_id, "version": version}))

    def put_back(self, executor_id: str, job_ids: Sequence[str]) -> None:
        """Jobs of this executor that do not run any more go back into their queues; their start did not count."""
        update = text(
            f"UPDATE {self._status} SET status = 'ENQUEUED', owner_xid = NULL, started_at_epoch_ms = NULL, "  # noqa: S608
            "recovery_attempts = CASE WHEN recovery_attempts > 0 THEN recovery_attempts - 1 ELSE 0 END "
            "WHERE status = 'PENDING' AND executor_id = :executor_id AND queue_name IS NOT NULL "
            "AND workflow_uuid = :job_id"
        )
        with self.engine.begin() as connection:
            connection.execute(update, [{"executor_id": executor_id, "job_id": job_id} for job_id in job_ids])

    def forgive(self, executor_id: str) -> None:
        """Takes the present start of an executor's running jobs off their count: it is given back, nothing died."""
        update = text(
            f"UPDATE {self._status} SET recovery_attempts = recovery_attempts - 1 "  # noqa: S608 - a constant
            "WHERE status = 'PENDING' AND executor_id = :executor_id AND recovery_attempts > 0"
        )
        with self.engine.begin() as connection:
            connection.execute(update, {"executor_id": executor_id})

    def delete(self, job_ids: Sequence[str]) -> None:
        for start in range(0, len(job_ids), _PAGE):
            self.client.delete_workflows(list(job_ids[start : start + _PAGE]))

    def close(self) -> None:
        self.client.destroy()
        self.engine.dispose()


def open_store(url: str, *, worker: bool, pool_size: int) -> Store:
    """Connects to nothing yet. `url` is the app's async address."""
    return Store(_open_engine(engine_url(url), worker=worker, pool_size=pool_size))


class OneWorkerLock:
    """Held by the one worker of an embedded database; the operating system frees it when the process dies.

    Two would take each other's running jobs for crashed ones, since both have the same fixed executor id.
    """

    def __init__(self, url: URL) -> None:
        self._path = Path(f"{url.database}-worker")
        self._connection: sqlite3.Connection | None = None

    def take(self) -> None:
        """Raises ConfigError where another worker holds it."""
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=0, check_same_thread=False)
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            connection.close()
            raise ConfigError(
                f"Another worker already runs on this database ({self._path}): stop it, or start without a worker."
            ) from error
        self._connection = connection

    def release(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
