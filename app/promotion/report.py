"""What a promotion did and saw, as JSON and as text; it holds no secret."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

from app.promotion.compare import Verified
from app.promotion.steps import Finding, StepReport

KEPT: Final = "report"
"""The note on the target that holds the last one."""


@dataclass(frozen=True, slots=True)
class Report:
    """Of one move. Times in seconds; `tables` as they were on both sides at the switch."""

    source: str
    target: str
    back: bool
    copied: Mapping[str, int]
    copy_s: float
    changes_applied: int
    switch_s: float
    total_s: float
    tables: tuple[Verified, ...]
    steps: tuple[StepReport, ...] = field(default=())

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    @property
    def rows_per_s(self) -> float:
        """Of the copy; 0 where nothing had to be copied."""
        return sum(self.copied.values()) / self.copy_s if self.copy_s > 0 else 0.0

    @property
    def failed(self) -> tuple[Finding, ...]:
        return tuple(finding for step in self.steps for finding in step.findings if not finding.passed)

    def json(self, **more: Any) -> bytes:
        """With `more` of what else there is to keep."""
        derived = {"rows": self.rows, "rows_per_s": round(self.rows_per_s), "passed": not self.failed}
        return orjson.dumps({**asdict(self), **derived, **more}, option=orjson.OPT_INDENT_2, default=str)

    def show(self, console: Console) -> None:
        console.print(_tables(self.tables))
        for line in self._lines():
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _lines(self) -> Iterable[str]:
        copied = sum(self.copied.values())
        yield f"{'Back' if self.back else 'Moved'}: {self.source} -> {self.target}"
        yield f"Rows copied: {copied} in {self.copy_s:.1f} s ({self.rows_per_s:.0f} a second)"
        yield f"Changes applied while the old side took writes: {self.changes_applied}"
        yield f"Rows that are the same on both sides, by count and checksum: {self.rows} in {len(self.tables)} tables"
        yield f"No side took writes for {self.switch_s:.2f} s"
        for step in self.steps:
            figures = ", ".join(f"{name} {value}" for name, value in step.figures.items())
            yield f"{step.name}: {figures or 'done'}"
            for finding in step.findings:
                yield f"  {'ok' if finding.passed else 'NOT PASSED'}: {finding.name}: {finding.seen}"
        yield f"Took {self.total_s:.1f} s"


def _tables(verified: Iterable[Verified]) -> Table:
    table = Table(title="Tables with rows", title_justify="left")
    for column in ("Table", "Rows", "Checksum"):
        table.add_column(column, no_wrap=True)
    for item in verified:
        if item.rows:
            table.add_row(item.table, str(item.rows), item.checksum)
    return table
