"""What strangers are told of parts that are not well."""

from pathlib import Path

from app.container.parts import _schema
from app.http.health import Readiness
from app.storage.db import Database
from tests.support.server import free_port


async def cause_of(url: str) -> str | None:
    db = Database(url)
    try:
        (check,) = (await Readiness({"schema": _schema(db)}, timeout_s=30).run()).checks
    finally:
        await db.close()
    return check.cause


async def test_a_database_that_is_away_is_not_told_by_its_address_and_login() -> None:
    cause = await cause_of(f"postgresql+asyncpg://the_login:hunter2@127.0.0.1:{free_port()}/the_name")
    assert cause is not None
    for secret in ("the_login", "hunter2", "127.0.0.1", "the_name"):
        assert secret not in cause


async def test_a_schema_that_does_not_fit_says_what_to_do(tmp_path: Path) -> None:
    cause = await cause_of(f"sqlite+aiosqlite:///{tmp_path / 'new.db'}")
    assert cause is not None
    assert "run `trellis migrate`" in cause


async def test_a_file_that_is_no_database_is_not_told_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at" * 40)
    cause = await cause_of(f"sqlite+aiosqlite:///{tmp_path / 'text.db'}")
    assert cause is not None
    assert str(tmp_path) not in cause
