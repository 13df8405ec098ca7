"""What has to be done on the way into a phase: what the program can see, it checks; the rest is somebody's job.

The lines are those of the roadmap that Trellis began from, for the same step, in our words and with our parts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from app.errors import TrellisError
from app.promotion.look import Look
from app.promotion.report import KEPT, Report
from app.promotion.side import Gate, Side
from app.promotion.steps import Finding
from app.promotion.tables import moved_tables
from app.promotion.target import look_at_target
from app.settings import CalendarKind, CrmKind, MailerKind, Settings
from infra.phases import PHASES, PhaseName


class State(StrEnum):
    CHECKED = "checked"
    NOT_YET = "not yet"
    PERSON = "a person's job"


@dataclass(frozen=True, slots=True)
class Line:
    """`evidence` is what the program saw, or what the person is to do."""

    what: str
    state: State
    evidence: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a check may look at. `report` is None before rows were moved."""

    target: Settings
    looks: Mapping[str, Look]
    report: Report | None

    @property
    def headroom(self) -> int:
        return PHASES[self.target.phase].headroom or 1

    def finding(self, step: str) -> Finding | None:
        """The last of a step of the promotion."""
        steps = self.report.steps if self.report else ()
        found = [finding for one in steps if one.name == step for finding in one.findings]
        return found[-1] if found else None


Check = Callable[[Evidence], tuple[State, str]]


def checklist(target: Settings, looks: Iterable[Look], report: Report | None = None) -> tuple[Line, ...]:
    """Every line for the step into the phase of the target's settings; none for the PoC."""
    evidence = Evidence(target, {look.name: look for look in looks}, report)
    return tuple(Line(what, *check(evidence)) for what, check in _STEPS.get(target.phase, ()))


async def checked(source: Settings, target: Settings, side: Side) -> tuple[Line, ...]:
    """The checklist as it stands now: `side` is the target's database, which may be away, and keeps its report."""
    looks = await look_at_target(source, target, side, moved_tables())
    try:
        kept = (await side.state()).get(KEPT) if await side.gate() is Gate.OPEN else None
    except TrellisError:
        kept = None
    return checklist(target, looks, TypeAdapter(Report).validate_json(kept) if kept else None)


def show(lines: Sequence[Line], console: Console) -> None:
    """Nothing where there are none."""
    if not lines:
        return
    table = Table(title="Migration checklist", title_justify="left")
    for column in ("What", "State", "Evidence, or what to do"):
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(line.what, line.state, line.evidence)
    console.print(table)


def _seen(*names: str) -> Check:
    """These looks at the new side are all ok."""

    def check(evidence: Evidence) -> tuple[State, str]:
        looks = [evidence.looks.get(name) or Look(name, False, "It was not looked at.") for name in names]
        bad = [str(look) for look in looks if not look.ok]
        if bad:
            return State.NOT_YET, " ".join(bad)
        return State.CHECKED, " ".join(f"{look.name}: {look.why}" for look in looks)

    return check


def _person(todo: str) -> Check:
    return lambda _evidence: (State.PERSON, todo)


def _set(name: str, holds: Callable[[Settings], object], todo: str) -> Check:
    """A setting of the new side says so."""

    def check(evidence: Evidence) -> tuple[State, str]:
        if not holds(evidence.target):
            return State.NOT_YET, todo
        value = getattr(evidence.target, name)
        shown = value if isinstance(value, str | bool | int) and not name.endswith("url") else "set"
        return State.CHECKED, f"TRELLIS_{name.upper()} is {shown}."

    return check


def _moved(evidence: Evidence) -> tuple[State, str]:
    report = evidence.report
    if report is None:
        return State.NOT_YET, "Run `trellis promote`."
    tables = len(report.tables)
    return State.CHECKED, f"{report.rows} rows in {tables} tables are the same on both sides, by count and checksum."


def _step(name: str) -> Check:
    """A step of the promotion found it so."""

    def check(evidence: Evidence) -> tuple[State, str]:
        finding = evidence.finding(name)
        if finding is None:
            return State.NOT_YET, "Run `trellis promote`."
        return State.CHECKED if finding.passed else State.NOT_YET, f"{finding.name}: {finding.seen}."

    return check


def _load(evidence: Evidence) -> tuple[State, str]:
    load = PHASES[evidence.target.phase].load
    many = evidence.headroom
    return State.PERSON, (
        f"Load the new side with {many} times {load.concurrent_conversations} conversations at once and "
        f"{load.leads_per_month} leads a month, and hold the answers' times against the phase's."
    )


_SMALL: Final[Sequence[tuple[str, Check]]] = (
    (
        "PostgreSQL stands: schema, a login of the app's own, row policies",
        _seen("PostgreSQL", "schema", "logins", "row policies"),
    ),
    ("The records of the CRM, and all other rows, came over from SQLite", _moved),
    ("A vector server stands", _seen("Qdrant")),
    ("The knowledge base is indexed anew", _step("vectors")),
    (
        "The CRM is a real one",
        _set("crm", lambda it: it.crm is not CrmKind.LOCAL, "Set TRELLIS_CRM to hubspot or salesforce, with its key."),
    ),
    (
        "The calendar is a real one",
        _set("calendar", lambda it: it.calendar is not CalendarKind.LOCAL, "Set TRELLIS_CALENDAR=google."),
    ),
    (
        "Mail really goes out",
        _set("mailer", lambda it: it.mailer is not MailerKind.LOCAL, "Set TRELLIS_MAILER=sendgrid, with its key."),
    ),
    ("Redis stands", _seen("Redis")),
    ("The app runs on Kubernetes, in several pods", _person("Deploy the image: api, worker and migrate.")),
    ("A load balancer is before the pods", _person("Point it at /readyz, and move the address of the API to it.")),
    ("Prometheus collects, and alerts reach somebody", _person("Let it read /metrics of every pod; load alerts/.")),
    ("It was loaded beyond what is promised", _load),
)
_MEDIUM: Final[Sequence[tuple[str, Check]]] = (
    ("Everything runs on Kubernetes", _person("Bring up the phase's stack, and deploy the image to it.")),
    ("Pods come and go with the load", _person("Switch the autoscalers on, and see one scale under load.")),
    ("A second region can take over", _person("Decide where; the multi-region phase brings its infrastructure.")),
    (
        "Jobs are a queue of their own, worked by processes of their own",
        _set("worker", lambda it: not it.worker, "Set TRELLIS_WORKER=false for the API, and run `trellis worker`s."),
    ),
    ("Caches have two tiers: in each process, and in Redis", _seen("Redis")),
    ("What the app does can be profiled in production", _person("Choose a service for it, and add its agent.")),
    ("Traces go from the edge to the model and back", _person("Set OTEL_EXPORTER_OTLP_ENDPOINT, and look at one.")),
    (
        "Reads go to replicas",
        lambda it: (
            _seen("pooler and replicas")(it)
            if it.target.database_reader_url
            else (State.NOT_YET, "Set TRELLIS_DATABASE_READER_URL.")
        ),
    ),
    (
        "A provider that fails is left alone, and another one answers",
        _set("model_fallback_url", lambda it: it.model_fallback_url, "Set TRELLIS_MODEL_FALLBACK_URL and its key."),
    ),
    ("It was loaded far beyond what is promised", _load),
)
_MULTI_REGION: Final[Sequence[tuple[str, Check]]] = (
    (
        "Each region serves, and knows which it is",
        _set("region", lambda it: it.region, "Set TRELLIS_REGION in each region's settings."),
    ),
    ("Search goes by meaning and by word, and finds what it found before", _step("answers")),
    ("Decisions learn from what people thought of them", _person("Read what outcomes say, and tune prompts by it.")),
    ("Features of a customer are computed in one place", _person("Decide whether a feature store is needed.")),
    ("Rows flow to a warehouse for analytics", _person("Replicate the tables into it, without personal data.")),
    (
        "Models of one's own were weighed",
        _set("model_url", lambda it: it.model_url, "Serve one, set TRELLIS_MODEL_URL, and run `trellis eval`."),
    ),
    ("Monitoring notices what no threshold names", _person("Add alerts on departures from last week's curve.")),
    ("Parts were made to fail on purpose", _person("Run `make chaos`, then do the same to the real parts.")),
)
_STEPS: Final = MappingProxyType(
    {PhaseName.SMALL: _SMALL, PhaseName.MEDIUM: _MEDIUM, PhaseName.MULTI_REGION: _MULTI_REGION}
)
