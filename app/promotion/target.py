"""Whether the new side can take the rows: all of it is looked at, before anything is copied."""

from collections.abc import Sequence

from app.clock import Clock, system_clock
from app.container.knowledge import remote_vectors
from app.errors import ConfigError
from app.promotion.look import Look, looked
from app.promotion.side import Side
from app.promotion.tables import MovedTable
from app.promotion.target_database import DatabaseLooks
from app.promotion.target_redis import look_at_redis
from app.settings import Settings
from app.web.signing import SECRET_FILE, signing_key
from infra.phases import PHASES, Cache, Relational, Vectors


async def look_at_target(
    source: Settings, target: Settings, side: Side, tables: Sequence[MovedTable], *, clock: Clock = system_clock
) -> tuple[Look, ...]:
    """What stands ready for the phase of the target's settings, by what that asks for (`infra.phases`).

    `side` is the target's database, `tables` what is to be moved into it.
    """
    wanted = PHASES[target.phase]
    looks = []
    if wanted.stores.relational is not Relational.SQLITE:
        looks += await DatabaseLooks(source, target, wanted, side, tables, clock).all()
    if wanted.stores.cache is not Cache.IN_PROCESS:
        looks.append(await looked("Redis", lambda: look_at_redis(target, wanted), "Check TRELLIS_REDIS_URL."))
    if wanted.stores.vectors is not Vectors.EMBEDDED:
        looks.append(await looked("Qdrant", lambda: _qdrant(target), "Check TRELLIS_VECTORS_URL and its key."))
    return (*looks, _signing(source, target))


def refuse(looks: Sequence[Look]) -> None:
    """Raises ConfigError with all that is not ok."""
    faults = [str(look) for look in looks if look.ok is False]
    if faults:
        raise ConfigError(f"The new side is not ready. {' '.join(faults)}")


async def _qdrant(target: Settings) -> Look:
    if target.vectors_url is None:
        return Look("Qdrant", False, "No vector server is named.", "Set TRELLIS_VECTORS_URL.")
    store = await remote_vectors(target, target.vectors_url)
    await store.close()
    return Look("Qdrant", True, "It answers, lets us in and is new enough.")


def _signing(source: Settings, target: Settings) -> Look:
    """Tokens of end users, sessions of the console and the audit log's marks for people are made with this key."""
    if signing_key(source) == signing_key(target):
        return Look("signing key", True, "Both sides sign with the same one.")
    kept = source.home / SECRET_FILE
    todo = f"Set TRELLIS_SESSION_SECRET to what is in {kept}, or let end users and the console sign in again."
    return Look("signing key", None, "The sides sign with different ones.", todo)
