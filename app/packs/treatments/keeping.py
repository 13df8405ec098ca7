"""How long what a run left behind is kept."""

from datetime import UTC, datetime, timedelta

from app.errors import Conflict
from app.pack import Kit
from app.packs.treatments.models import Run


def kept_since(kit: Kit) -> datetime:
    """What ended before is deleted; the beginning of time where everything is kept."""
    days = kit.settings.treatments_keep_days
    return kit.ports.clock() - timedelta(days=days) if days else datetime.min.replace(tzinfo=UTC)


def refuse_when_over(kit: Kit, run: Run) -> None:
    """Raises Conflict for a run whose time is over: some of its results may be gone already."""
    if run.finished_at is not None and run.finished_at < kept_since(kit):
        days = kit.settings.treatments_keep_days
        raise Conflict(f"The run '{run.id}' ended more than {days} days ago and is being deleted: start a new one.")
