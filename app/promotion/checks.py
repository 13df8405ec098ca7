"""What must hold on both sides before a row moves."""

import asyncio

from sqlalchemy.engine import make_url

from app.errors import ConfigError, InvalidInput
from app.jobs.store import open_store
from app.promotion.side import Side
from app.settings import Settings
from app.storage.schema import head_revision
from infra.phases import PHASES, PhaseName, Relational


def check_phases(source: Settings, target: Settings, from_: PhaseName, to: PhaseName) -> None:
    """Raises InvalidInput or ConfigError where the settings are not those of two different phases."""
    if from_ is to:
        raise InvalidInput(f"--from and --to are both '{to}': name two phases.")
    for option, phase, settings in (("--from", from_, source), ("--to", to, target)):
        if settings.phase is not phase:
            whose = "this process runs" if option == "--from" else "the file of --target is for"
            raise ConfigError(f"{option} says '{phase}', but {whose} phase '{settings.phase}' (TRELLIS_PHASE).")
        _check_kind(settings, phase)
    if source.owner_database_url == target.owner_database_url:
        raise ConfigError("Both sides have the same database: --target must name the new one.")


def _check_kind(settings: Settings, phase: PhaseName) -> None:
    embedded = make_url(settings.sqlalchemy_url).get_backend_name() == "sqlite"
    wanted = PHASES[phase].stores.relational
    if embedded != (wanted is Relational.SQLITE):
        raise ConfigError(
            f"Phase '{phase}' runs on {wanted}, but its settings name {'SQLite' if embedded else 'PostgreSQL'}: "
            "check TRELLIS_DATABASE_URL."
        )


async def check_schemas(*sides: tuple[Side, Settings]) -> None:
    """Raises ConfigError unless each side has the schema of this program, the app's and the job engine's."""
    wanted = head_revision()
    for side, settings in sides:
        found = await side.revision()
        if found != wanted:
            raise ConfigError(
                f"{side.name} has schema {found or 'none'}; this program needs {wanted}: run `trellis migrate` there."
            )
        await asyncio.to_thread(_check_engine, side, settings.owner_database_url)


def _check_engine(side: Side, url: str) -> None:
    store = open_store(url, worker=True, pool_size=1)
    try:
        store.verify()
    except ConfigError as error:
        raise ConfigError(f"{side.name}: {error.detail}") from error
    finally:
        store.close()
