"""The contacts of a bank's campaigns as customers, events and outcomes (UCI Bank Marketing; Moro, Cortez, Rita 2014).

A row is one customer with the last contact of a campaign and what came of it. What goes where:

- The moment of the contact: the file is ordered by time and gives day and month alone, so the year rolls on from 2008
  whenever the month goes back. At 12:00 UTC.
- `deposit` is the outcome of `call_back` at that moment. `duration` is known only once the call is over: never read.
- Events before it. Of this campaign: `campaign` - 1 earlier contacts, of which no dates are known: put two days apart,
  at most `MOST_CONTACTS`. Of the former one, `pdays` ago: `previous` contacts a week apart, the last of them at that
  day, with a `response` on it where `poutcome` is success.
- Worth: what a deposit is taken to bring. A margin of 1.5 % a year on the share of the balance that such a customer
  would tie up, for two years, 20 USD at least for the relation, 2,000 USD at most. An assumption, for the file has no
  money in it but the balance: half of it, never below 1,000 USD, since deposits come from money kept elsewhere too.
- Segment: whether there is a loan to serve. Group for fairness: by age, under 30, 30 to 59, 60 and over, which is what
  rules against unequal treatment speak of and what a model may favour by itself.
"""

import csv
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final

from app.packs.treatments.catalogue import CatalogueIn, Condition, Floor, Treatment
from app.packs.treatments.features import CONTACT, RESPONSE
from app.packs.treatments.schemas import CustomerIn, EventIn, OutcomeIn

JUDGED: Final = 10_000
MOST_CONTACTS: Final = 8
TREATMENT: Final = "call_back"
FIRST_YEAR: Final = 2008
TRAITS: Final = ("age", "former_campaign", "housing", "line", "loan", "work")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WORK: Final[Mapping[str, str]] = {
    "management": "office",
    "admin.": "office",
    "technician": "trade",
    "blue-collar": "trade",
    "services": "trade",
    "housemaid": "trade",
    "self-employed": "own business",
    "entrepreneur": "own business",
    "retired": "retired",
    "student": "student",
    "unemployed": "none",
}
_LINE: Final[Mapping[str, str]] = {"cellular": "mobile", "telephone": "landline"}
_FORMER: Final[Mapping[str, str]] = {"success": "took up", "failure": "declined", "other": "undecided"}


@dataclass(frozen=True, slots=True)
class BankCustomer:
    """A row of the file. `outcome` is what came of its contact; where `judged`, it is for judging alone: not to be
    recorded."""

    customer: CustomerIn
    outcome: OutcomeIn
    judged: bool


def bank_customers(
    path: Path, *, limit: int | None = None, judged: int = JUDGED, decided_at: datetime | None = None
) -> Iterator[BankCustomer]:
    """The file's rows, oldest first, one at a time; the last `judged` of the first `limit` are judged only.

    The file has each customer called on a day of their own, a batch decides about all of them at one moment. With
    `decided_at` the judged ones' histories are moved so that their contact falls on that moment: what they were on the
    day of their call, they are in the run.
    """
    total = min(_count(path), limit) if limit is not None else _count(path)
    with path.open(newline="", encoding="utf-8") as file:
        for number, (row, at) in enumerate(_dated(islice(csv.DictReader(file), total))):
            is_judged = number >= total - judged
            moment = decided_at if is_judged and decided_at is not None else at
            yield BankCustomer(_customer(number, row, moment), _outcome(number, row, moment), is_judged)


def contacted_until(path: Path) -> datetime:
    """The moment of the file's last contact."""
    with path.open(newline="", encoding="utf-8") as file:
        ((_, at),) = deque(_dated(csv.DictReader(file)), maxlen=1)
    return at


def bank_catalogue(call_backs: int = 200, letters: int = 1_000) -> CatalogueIn:
    """What the demo may do for a customer. `call_backs` and `letters` are units a day."""
    return CatalogueIn(
        treatments=(*_by_people(call_backs, letters), *_by_machine(letters)),
        budget_usd_per_day=2_500,
        floors=(Floor(group="60 and over", share=0.02, treatment=TREATMENT),),
        traits=TRAITS,
        control_share=0.1,
        window_days=90,
    )


def _by_people(call_backs: int, letters: int) -> tuple[Treatment, ...]:
    return (
        Treatment(
            name=TREATMENT,
            title="A call by an adviser",
            channel="phone",
            cost_usd=4.0,
            base_chance=0.05,
            capacity_per_day=call_backs,
            cooldown_days=30,
            priority=1.2,
        ),
        Treatment(
            name="letter",
            title="A letter with a reply card",
            channel="mail",
            cost_usd=1.1,
            base_chance=0.02,
            capacity_per_day=letters,
            cooldown_days=60,
        ),
        Treatment(
            name="branch_visit",
            title="An invitation to the branch",
            channel="mail",
            cost_usd=2.0,
            base_chance=0.03,
            capacity_per_day=max(1, letters // 4),
            segments=("free",),
            cooldown_days=90,
        ),
    )


def _by_machine(letters: int) -> tuple[Treatment, ...]:
    return (
        Treatment(name="email", title="An e-mail with the offer", channel="email", cost_usd=0.01, base_chance=0.01),
        Treatment(
            name="sms",
            title="A text message",
            channel="sms",
            cost_usd=0.06,
            base_chance=0.015,
            cooldown_days=14,
            conditions=(Condition(attribute="line", any_of=("mobile",)),),
        ),
        Treatment(
            name="rate_offer",
            title="A better rate for 12 months",
            channel="email",
            cost_usd=0.02,
            gain=0.6,
            base_chance=0.03,
            capacity_per_day=letters,
            cooldown_days=180,
            conditions=(
                Condition(attribute="balance", at_least=1_000),
                Condition(attribute="in_default", any_of=(False,)),
            ),
        ),
    )


def _count(path: Path) -> int:
    with path.open(newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.DictReader(file))


def _dated(rows: Iterator[dict[str, str]]) -> Iterator[tuple[dict[str, str], datetime]]:
    year, before = FIRST_YEAR, 0
    for row in rows:
        month = _MONTHS.index(row["month"]) + 1
        year += month < before
        before = month
        yield row, datetime(year, month, int(row["day"]), 12, tzinfo=UTC)


def _customer(number: int, row: Mapping[str, str], moment: datetime) -> CustomerIn:
    age, balance = int(row["age"]), int(row["balance"])
    return CustomerIn(
        external_id=f"bank-{number + 1:05}",
        segment="free" if row["housing"] == row["loan"] == "no" else "borrower",
        fair_group=_age_group(age),
        worth_usd=worth_of(balance),
        attributes={
            "age": _age_group(age),
            "balance": balance,
            "education": row["education"],
            "former_campaign": _FORMER.get(row["poutcome"], "none"),
            "housing": row["housing"] == "yes",
            "in_default": row["default"] == "yes",
            "line": _LINE.get(row["contact"], "unknown"),
            "loan": row["loan"] == "yes",
            "marital": row["marital"],
            "work": _WORK.get(row["job"], "unknown"),
        },
        events=_events(row, moment),
    )


def worth_of(balance: int) -> float:
    """USD that a deposit brings; the reasoning stands at the top."""
    tied = max(1_000.0, 0.5 * balance)
    return round(min(2_000.0, 20.0 + 0.015 * 2 * tied), 2)


def _age_group(age: int) -> str:
    return "under 30" if age < 30 else "30 to 59" if age < 60 else "60 and over"


def _events(row: Mapping[str, str], moment: datetime) -> list[EventIn]:
    earlier = min(int(row["campaign"]) - 1, MOST_CONTACTS)
    events = [_event(CONTACT, f"now-{back}", moment - timedelta(days=2 * back)) for back in range(earlier, 0, -1)]
    ago = int(row["pdays"])
    if ago > 0:
        then = moment - timedelta(days=ago)
        former = min(int(row["previous"]), MOST_CONTACTS)
        events += [_event(CONTACT, f"former-{back}", then - timedelta(weeks=back)) for back in range(former)]
        if row["poutcome"] == "success":
            events.append(_event(RESPONSE, "former", then + timedelta(hours=1)))
    return events


def _event(kind: str, key: str, at: datetime) -> EventIn:
    return EventIn(key=f"{kind}-{key}", at=at, kind=kind, channel="phone")


def _outcome(number: int, row: Mapping[str, str], moment: datetime) -> OutcomeIn:
    success = row["deposit"] == "yes"
    name = f"bank-{number + 1:05}"
    worth = worth_of(int(row["balance"])) if success else 0.0
    return OutcomeIn(
        key=f"{name}-call", customer=name, treatment=TREATMENT, success=success, value_usd=worth, at=moment
    )
