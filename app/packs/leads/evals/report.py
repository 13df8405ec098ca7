"""The evaluation's tables."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from app.packs.leads.evals.measures import EvidenceMeasures, Measures, by_language, confusion
from app.packs.leads.evals.pipeline import Judged
from app.packs.leads.models import Action

_HEADINGS = ("exact", "acceptable", "escalation precision", "escalation recall", "escalated")


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def comparison(title: str, agent: Measures, others: Mapping[str, Measures]) -> Table:
    """The agent beside what needs no agent."""
    table = Table(title=f"Decisions on {agent.cases} leads: {title}", title_justify="left")
    table.add_column("way to decide")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for name, row in {**others, "the agent, offline model": agent}.items():
        table.add_row(name, *_cells(row))
    return table


def _cells(row: Measures) -> tuple[str, ...]:
    values = (row.exact, row.acceptable, row.escalation_precision, row.escalation_recall, row.escalated)
    return tuple(map(percent, values))


def evidence_table(title: str, found: EvidenceMeasures) -> Table:
    table = Table(title=f"Evidence of {found.cases} leads to be answered: {title}", title_justify="left")
    for heading in ("recall of the search", "recall of the citations", "a right page cited", "citation precision"):
        table.add_column(heading, justify="right")
    table.add_row(*map(percent, (found.retrieved, found.cited, found.hit, found.precision)))
    return table


def confusion_table(title: str, judged: Sequence[Judged]) -> Table:
    counts = confusion(judged)
    table = Table(title=f"Expected (rows) and decided (columns): {title}", title_justify="left")
    table.add_column("")
    for decided in Action:
        table.add_column(decided.value, justify="right")
    for expected in Action:
        table.add_row(expected.value, *(str(counts.get((expected, decided), 0) or "·") for decided in Action))
    return table


def language_table(title: str, judged: Sequence[Judged]) -> Table:
    table = Table(title=f"By language: {title}", title_justify="left")
    for heading in ("language", "leads", "exact", "acceptable"):
        table.add_column(heading, justify="left" if heading == "language" else "right")
    for language, row in by_language(judged).items():
        table.add_row(language, str(row.cases), percent(row.exact), percent(row.acceptable))
    return table


def misses_table(title: str, judged: Sequence[Judged]) -> Table:
    """The leads whose decision is neither expected nor acceptable, and why the agent decided so."""
    table = Table(title=f"Wrong: {title}", title_justify="left")
    for heading in ("lead", "language", "expected", "decided", "confidence", "because"):
        table.add_column(heading)
    for row in judged:
        if not row.case.accepts(row.action):
            because = " ".join((*row.verdict.overrides, row.verdict.reason))
            confidence = f"{row.verdict.confidence:.2f}"
            table.add_row(row.case.name, row.case.language, row.case.expected, row.action, confidence, because[:160])
    return table
