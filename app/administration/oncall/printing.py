"""Writes what is known for a terminal: commands whole on their lines, so that they can be copied."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from app.administration.oncall.alerts import Alert, shown
from app.administration.oncall.filling import exported, filled, used
from app.administration.oncall.prometheus import Ran, Value, number
from app.administration.oncall.state import Switches
from runbooks.pages import Block, Kind, Language, Page

MOST_ROWS: Final = 10
MOST_ALERTS: Final = 12
_COLOURS: Final = {Kind.VERIFY: "green", Kind.MUTATE: "bold red", Kind.ROLLBACK: "yellow"}
_SEVERITIES: Final = {"page": "bold white on red", "ticket": "black on yellow"}


@dataclass(frozen=True, slots=True)
class Known:
    """What was asked beside the pages. Each `no_...` is the sentence in the place of what did not answer.

    Attributes:
        values: of each query, its answer or the sentence why there is none.
        started: when the youngest process of each job began, seconds since 1970.
    """

    values: Mapping[str, Sequence[Value] | str] = field(default_factory=dict)
    deploys: Sequence[Ran] = ()
    started: Sequence[Value] = ()
    no_deploys: str = ""
    switches: Switches | None = None
    no_switches: str = ""


class Printer:
    """Prints to one console; `now` is what ages are counted from."""

    def __init__(self, console: Console, now: datetime) -> None:
        self._out = console
        self._now = now

    def around(self, known: Known) -> None:
        """What holds for every alert: deploys, flags and switches."""
        self._heading("Deploys of the last 24 hours")
        if known.no_deploys:
            self._line(known.no_deploys)
        else:
            self._deploys(known)
        self._heading("Flags and kill switches")
        if known.switches is None:
            self._line(known.no_switches)
        else:
            self._switches(known.switches)

    def alerts(self, alerts: Sequence[Alert]) -> None:
        """The alerts of one name: what they say, and each one's labels."""
        first = alerts[0]
        title = Text.assemble((f" {first.severity or 'alert'} ", _SEVERITIES.get(first.severity, "reverse")), " ")
        title.append(first.name, "bold")
        title.append(" (resolved)" if first.resolved else "", "green")
        self._out.print(Rule(title, align="left"))
        for name in ("summary", "description", "dashboard_url", "runbook_url"):
            if text := first.annotations.get(name):
                self._line(text)
        for alert in filter(lambda one: one.labels, alerts[:MOST_ALERTS]):
            self._line(self._said(alert), "cyan")
        if len(alerts) > MOST_ALERTS:
            self._line(f"... and {len(alerts) - MOST_ALERTS} more.")

    def page(self, page: Page, text: str, given: Mapping[str, str], known: Known) -> None:
        """The page with labels in its commands and values below its queries."""
        bodies = used([block.body for block in page.blocks if block.language is not Language.PROMQL])
        wanted = {name: value for name, value in given.items() if name in bodies}
        if wanted:
            self._line(exported(wanted), "cyan")
        if unknown := sorted(bodies - wanted.keys()):
            self._line(f"To be set by you: {', '.join(f'${name}' for name in unknown)}.", "dim")
        blocks = {block.line: block for block in page.blocks}
        for number_of, line in _outside(text, blocks):
            if block := blocks.get(number_of):
                self._block(block, wanted, known)
            else:
                self._prose(line)

    def why_not(self, sentence: str) -> None:
        self._line(sentence, "bold yellow")

    def _block(self, block: Block, given: Mapping[str, str], known: Known) -> None:
        self._line(f"[{block.kind}]{f' no drill runs this: {block.not_run}' if block.not_run else ''}", "dim")
        body = block.body if block.language is Language.PROMQL else filled(block.body, given)
        for line in body.splitlines():
            self._line(f"    {line}", _COLOURS[block.kind])
        if block.body in known.values:
            self._answer(known.values[block.body])

    def _answer(self, answer: Sequence[Value] | str) -> None:
        if isinstance(answer, str):
            self._line(f"  = {answer}", "dim")
            return
        for value in answer[:MOST_ROWS]:
            self._line(f"  = {number(value.value)}  {_labels(value.labels)}".rstrip(), "bold")
        if not answer:
            self._line("  = nothing", "bold")
        if len(answer) > MOST_ROWS:
            self._line(f"  ... and {len(answer) - MOST_ROWS} more.")

    def _prose(self, line: str) -> None:
        if line.startswith("## "):
            self._heading(line[3:])
        elif line and not line.startswith("# "):
            self._out.print(Text(line), highlight=False)

    def _deploys(self, known: Known) -> None:
        table = Table("Version", "Began", "Ended", "Processes", box=None, padding=(0, 2, 0, 0))
        for ran in known.deploys:
            began = self._when(ran.began) if ran.began else "before"
            table.add_row(ran.version, began, self._when(ran.ended) if ran.ended else "", str(ran.processes))
        if known.deploys:
            self._out.print(table)
        else:
            self._line("No version was seen.")
        for value in known.started:
            at = datetime.fromtimestamp(value.value, UTC)
            self._line(f"Youngest process of {_labels(value.labels)}: began {self._when(at)}.")

    def _switches(self, switches: Switches) -> None:
        stopping = [flag for flag in switches.flags if flag.stops]
        for flag in stopping:
            whose = "every tenant" if flag.tenant == "*" else f"tenant {shown(flag.tenant)}"
            self._line(f"{flag.name} is ON for {whose}, by {shown(flag.by)}, {self._when(flag.at)}.", "bold red")
        if not stopping:
            self._line("No kill switch is on.")
        table = Table("Flag", "Tenant", "Value", "Set", "By", box=None, padding=(0, 2, 0, 0))
        for flag in switches.flags:
            when = self._when(flag.at)
            table.add_row(flag.name, shown(flag.tenant), shown(flag.value), when, shown(flag.by))
        if switches.flags:
            self._out.print(table)
        else:
            self._line("No flag was ever set: all have their defaults.")
        for change in switches.changes:
            said = f"{self._when(change.at)}: {shown(change.by)} set {shown(change.name)} to {shown(change.value)}."
            self._line(said, "dim")

    def _said(self, alert: Alert) -> str:
        since = f", since {self._when(alert.since)}" if alert.since else ""
        known = {name: value for name, value in alert.labels.items() if name != "alertname"}
        return f"{'over' if alert.resolved else 'fires'}{since}: {_labels(known)}"

    def _when(self, at: datetime) -> str:
        minutes = max(0, round((self._now - at).total_seconds() / 60))
        ago = (
            f"{minutes} min" if minutes < 120 else f"{minutes // 60} h" if minutes < 2880 else f"{minutes // 1440} days"
        )
        return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({ago} ago)"

    def _heading(self, title: str) -> None:
        self._out.print(Text(f"\n{title}", "bold underline"))

    def _line(self, text: str, style: str = "") -> None:
        # A command that a terminal breaks in two cannot be copied: it may be longer than the screen.
        self._out.print(Text(text, style), soft_wrap=True, highlight=False)


def _labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _outside(text: str, blocks: Mapping[int, Block]) -> Iterator[tuple[int, str]]:
    """Lines with their numbers from 1: of a block only the one that opens it."""
    within = False
    for number_of, line in enumerate(text.splitlines(), 1):
        if number_of in blocks:
            within = True
            yield number_of, line
        elif within:
            within = line.strip() != "```"
        else:
            yield number_of, line


def queries(pages: Iterable[Page]) -> Sequence[str]:
    """Of the pages' verification and recovery, each once."""
    found = (
        block.body
        for page in pages
        for block in page.blocks
        if block.language is Language.PROMQL and block.section.startswith("Verify")
    )
    return list(dict.fromkeys(found))
