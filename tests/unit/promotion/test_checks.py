"""What stops a promotion before anything is touched, in one sentence each."""

from pathlib import Path

import pytest

from app.errors import ConfigError, InvalidInput
from app.promotion.checks import check_phases, check_schemas
from app.promotion.command import open_side
from app.promotion.sqlite_side import SqliteSide
from app.settings import Settings, load_settings, load_settings_file
from infra.phases import PhaseName
from tests.support.promotion import TABLES, side

POSTGRES = "postgresql+asyncpg://app:secret@127.0.0.1:1/x"


def settings(phase: PhaseName, url: str | None = None) -> Settings:
    return load_settings({}, phase=phase, database_url=url)


@pytest.mark.parametrize(
    ("source", "target", "from_", "to", "said"),
    [
        (settings(PhaseName.POC), settings(PhaseName.POC), PhaseName.POC, PhaseName.POC, "name two phases"),
        (settings(PhaseName.POC), settings(PhaseName.POC), PhaseName.POC, PhaseName.SMALL, "is for phase 'poc'"),
        (
            settings(PhaseName.POC, POSTGRES),
            settings(PhaseName.SMALL, POSTGRES),
            PhaseName.POC,
            PhaseName.SMALL,
            "SQLite",
        ),
        (settings(PhaseName.POC), settings(PhaseName.SMALL), PhaseName.POC, PhaseName.SMALL, "name SQLite"),
        (
            settings(PhaseName.SMALL, POSTGRES),
            settings(PhaseName.MEDIUM, POSTGRES),
            PhaseName.SMALL,
            PhaseName.MEDIUM,
            "the same database",
        ),
    ],
)
def test_settings_that_are_not_those_of_two_phases(
    source: Settings, target: Settings, from_: PhaseName, to: PhaseName, said: str
) -> None:
    with pytest.raises((ConfigError, InvalidInput), match=said):
        check_phases(source, target, from_, to)


def test_two_phases_with_their_databases_pass() -> None:
    check_phases(settings(PhaseName.POC), settings(PhaseName.SMALL, POSTGRES), PhaseName.POC, PhaseName.SMALL)


async def test_a_missing_file_and_an_older_schema_are_told(tmp_path: Path) -> None:
    source = settings(PhaseName.POC)
    with pytest.raises(ConfigError, match="There is no database"):
        await check_schemas((side(tmp_path / "none.db"), source))
    (tmp_path / "empty.db").touch()
    with pytest.raises(ConfigError, match=r"has schema none; this program needs .* run `trellis migrate` there"):
        await check_schemas((side(tmp_path / "empty.db"), source))
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at" * 40)
    with pytest.raises(ConfigError, match="is not a database"):
        await check_schemas((SqliteSide(tmp_path / "text.db", TABLES), source))


def test_a_side_is_named_without_its_password() -> None:
    assert "secret" not in open_side(settings(PhaseName.SMALL, POSTGRES)).name


def test_the_other_sides_settings_come_from_the_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_REGION", "here")
    file = tmp_path / ".env.small"
    file.write_text(
        "# the new side\nTRELLIS_PHASE=small\nexport TRELLIS_DATABASE_URL='postgresql+asyncpg://a:p${x}w@db/t'\n"
        'TRELLIS_CRM_FIELDS={"a": "b"}\nTRELLIS_VENDOR_TENANTS=acme, globex\n'
    )
    found = load_settings_file(file)
    assert (found.phase, found.region, found.crm_fields) == (PhaseName.SMALL, "", {"a": "b"})
    assert found.database_url == "postgresql+asyncpg://a:p${x}w@db/t"
    assert found.vendor_tenants == {"acme", "globex"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("TRELLIS_FASE=small", "TRELLIS_FASE is not a setting of Trellis: did you mean TRELLIS_PHASE"),
        ("PATH=/bin", "has a line PATH: it may hold TRELLIS_"),
        ("postgresql+asyncpg://a:secret@db/t", "has a line, which is no setting: it may hold TRELLIS_"),
        ("TRELLIS_DATABASE_URL:postgresql+asyncpg://a:secret@db/t", "is no setting"),
        ("TRELLIS_PORT=secret", "TRELLIS_PORT is not valid"),
        ("TRELLIS_VECTORS_KEY=secret", "TRELLIS_VECTORS_KEY needs TRELLIS_VECTORS_URL"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_file_is_told_without_its_values(tmp_path: Path, lines: str | None, said: str) -> None:
    file = tmp_path / "side.env"
    if lines is not None:
        file.write_text(lines)
    with pytest.raises(ConfigError, match=said) as caught:
        load_settings_file(file)
    assert "secret" not in caught.value.detail
