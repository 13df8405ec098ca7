"""Where the engine connects to, and that one worker holds the embedded database."""

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from app.errors import ConfigError
from app.jobs.store import OneWorkerLock, engine_url, open_store


@pytest.mark.parametrize(
    ("url", "engine"),
    [
        ("sqlite+aiosqlite:////data/trellis.db", "sqlite:////data/trellis.db"),
        ("postgresql+asyncpg://u:p%40ss@db:5432/trellis", "postgresql+psycopg://u:p%40ss@db:5432/trellis"),
        ("postgresql+asyncpg://u@db/t?ssl=require", "postgresql+psycopg://u@db/t?sslmode=require"),
        ("postgresql+asyncpg://u@db/t?prepared_statement_cache_size=0", "postgresql+psycopg://u@db/t"),
    ],
)
def test_the_apps_address_becomes_the_engines(url: str, engine: str) -> None:
    assert engine_url(url).render_as_string(hide_password=False) == engine


@pytest.mark.parametrize("url", ["sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:", "mysql+aiomysql://u@db/t"])
def test_a_database_that_cannot_hold_jobs_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="Durable jobs"):
        engine_url(url)


def test_the_embedded_engine_writes_ahead_and_waits_for_other_writers(tmp_path: Path) -> None:
    store = open_store(f"sqlite+aiosqlite:///{tmp_path / 'trellis.db'}", worker=True, pool_size=1)
    with store.engine.connect() as connection:
        found = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")]
        assert found == ["wal", 1]
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 15_000
        assert connection.connection.dbapi_connection.isolation_level == "IMMEDIATE"
    store.close()


def test_an_error_of_the_engine_quotes_no_payload(tmp_path: Path) -> None:
    store = open_store(f"sqlite+aiosqlite:///{tmp_path / 'trellis.db'}", worker=True, pool_size=1)
    with store.engine.connect() as connection, pytest.raises(DBAPIError) as failed:
        connection.execute(text("INSERT INTO nowhere VALUES (:payload)"), {"payload": "what a person wrote"})
    assert "what a person wrote" not in str(failed.value)
    store.close()


def test_only_one_holds_the_lock_until_it_is_released(tmp_path: Path) -> None:
    url = make_url(f"sqlite:///{tmp_path / 'trellis.db'}")
    first, second = OneWorkerLock(url), OneWorkerLock(url)
    first.take()
    with pytest.raises(ConfigError, match="Another worker already runs"):
        second.take()
    first.release()
    second.take()
    second.release()
