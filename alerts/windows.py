"""How fast a budget may burn before someone is told: several windows, several rates of burning.

From Google's SRE workbook, chapter 5, "Multiwindow, multi-burn-rate alerts"
(https://sre.google/workbook/alerting-on-slos/): the long window says that enough of the budget is gone to matter, the
short one that it is still going.
"""

from dataclasses import dataclass
from typing import Final

from alerts.model import Severity

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86_400
BUDGET_S: Final = 30 * DAY
WINDOWS: Final = (5 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR, DAY, 3 * DAY, BUDGET_S)


@dataclass(frozen=True, slots=True)
class Burn:
    """One pair of windows (seconds).

    `factor`: how many times faster than it can bear the budget burns; at 1 it lasts 30 days exactly.
    `least`: bad events in the long window below which nobody is told, whatever their share: a few failures of very
    few requests say nothing about a service. docs/decisions/0039 has the odds.
    """

    factor: float
    long_s: int
    short_s: int
    severity: Severity
    least: int
    hold_s: int

    @property
    def lasts_s(self) -> float:
        """After how long a budget that burns at this rate is gone."""
        return BUDGET_S / self.factor


BURNS: Final = (
    Burn(14.4, HOUR, 5 * MINUTE, Severity.PAGE, least=5, hold_s=60),
    Burn(6, 6 * HOUR, 30 * MINUTE, Severity.PAGE, least=8, hold_s=60),
    Burn(3, DAY, 2 * HOUR, Severity.TICKET, least=10, hold_s=300),
    Burn(1, 3 * DAY, 6 * HOUR, Severity.TICKET, least=10, hold_s=300),
)
TICKETS: Final = tuple(burn for burn in BURNS if burn.severity is Severity.TICKET)

# Windows up to this one are read from the counters themselves; longer ones from the recorded rate of 5 minutes, which
# is one series instead of one for each process, route and status.
DIRECT_S: Final = HOUR
BASE_S: Final = 5 * MINUTE
