"""What came of rehearsals, as a table and as a page's last line."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

COLUMNS = ("name", "detected in", "recovered in", "data lost")


class Outcome(StrEnum):
    RECOVERED = "recovered"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Drilled:
    """One rehearsal's result.

    Attributes:
        detected_s: from the fault to the alert (or to the first block of Verify).
        recovered_s: from there until the recovery query was green; what the page's blocks took is in it.
        lost: counted by the stage.
        why: of what failed or was skipped.
    """

    name: str
    outcome: Outcome
    detected_s: float = 0.0
    recovered_s: float = 0.0
    lost: str = ""
    why: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """As `COLUMNS` names them."""
        if self.outcome is not Outcome.RECOVERED:
            return (self.name, self.outcome.value, "–", self.why.partition("\n")[0])
        return (self.name, f"{self.detected_s:.0f} s", f"{self.recovered_s:.0f} s", self.lost)

    def stamp(self, day: date) -> str:
        """For the last line of the page."""
        return f"{day}, detected in {self.detected_s:.0f} s, recovered in {self.recovered_s:.0f} s, {self._lost}"

    @property
    def _lost(self) -> str:
        what, mark, beside = self.lost.partition(" (")
        return f"{what} lost{mark}{beside}"


def table(results: Sequence[Drilled]) -> str:
    """In Markdown, columns in line."""
    rows = [COLUMNS, *(result.cells for result in results)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows]
    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([lines[0], rule, *lines[1:]])
