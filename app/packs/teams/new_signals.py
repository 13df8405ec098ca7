"""A signal on its way into the rows, wherever it comes from."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from app.ids import new_id
from app.packs.teams.models import SignalKind

GIVEN, CRM, CODE = "given", "crm", "code"
"""Where a signal comes from."""


@dataclass(frozen=True, slots=True)
class NewSignal:
    """The columns that say something; `app.packs.teams.models.ClientSignal` explains them."""

    key: str
    kind: SignalKind
    at: datetime
    quantity: float = 1.0
    ref: str = ""
    priority: str = ""
    text: str = ""

    def row(self, client_id: str, source: str, now: datetime) -> dict[str, Any]:
        """Every column but the tenant."""
        own = {"id": new_id("signal"), "created_at": now, "client_id": client_id, "source": source}
        return asdict(self) | own | {"kind": self.kind.value}
