"""What goes in and out of `/v1/claims`. Amounts go in as whole hundredths of the currency and come out as text."""

from datetime import date, datetime
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.errors import InvalidInput
from app.governance.privacy import REFERENCE
from app.governance.user_tokens import check_user_id
from app.packs.claims.models import OPEN, Claim, ClaimState, Policy
from app.packs.claims.repository import Balance, ClaimFilter

MAX_MINOR = 2_000_000_000
MAX_MEMBERS = 1_000
MAX_POLICIES = 20
MAX_CLAIMS = 1_000
YEARS = (1970, 2100)
OPEN_CLAIMS = "open"


def money(minor: int, currency: str) -> str:
    """`1250.00 EUR` of 125000."""
    return f"{minor // 100}.{minor % 100:02d} {currency}"


Number = Annotated[
    str,
    Field(
        pattern=f"^{REFERENCE}$",
        description="Two to four capital letters, '-', then a year, '-' and 3-10 digits, or 6-12 digits: "
        "`CL-2026-000123`. Numbers of this form are masked in logs.",
    ),
]
Minor = Annotated[int, Field(ge=0, le=MAX_MINOR)]
Benefit = Annotated[str, Field(pattern=r"^[a-z][a-z0-9 _-]{0,59}$")]
Year = Annotated[int, Field(ge=YEARS[0], le=YEARS[1])]


def _opaque(user_id: str) -> str:
    try:
        return check_user_id(user_id)
    except InvalidInput as error:
        raise ValueError(error.detail) from None


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class PolicyIn(_In):
    """`limits`: what each benefit pays a year."""

    number: Number
    product: str = Field(min_length=1, max_length=120)
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    starts_on: date
    ends_on: date | None = None
    limits: dict[Benefit, Minor] = Field(max_length=50)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.ends_on is not None and self.ends_on < self.starts_on:
            raise ValueError("'ends_on' is before 'starts_on'")
        return self


class ClaimIn(_In):
    number: Number
    policy: Number
    benefit: Benefit
    state: ClaimState
    amount_claimed: Minor
    amount_paid: Minor = 0
    incurred_on: date
    note: str = Field("", max_length=2000)


class MemberIn(_In):
    """A member with what is to be added or changed; policies and claims that are left out stay as they are."""

    user_id: Annotated[str, AfterValidator(_opaque)]
    name: str = Field(min_length=1, max_length=200)
    email: str = Field(min_length=3, max_length=320, pattern=r"^[^@\s]+@[^@\s]+$")
    policies: list[PolicyIn] = Field(default_factory=list, max_length=MAX_POLICIES)
    claims: list[ClaimIn] = Field(default_factory=list, max_length=MAX_CLAIMS)


class MembersIn(_In):
    members: list[MemberIn] = Field(min_length=1, max_length=MAX_MEMBERS)


class Changes(BaseModel):
    new: int = 0
    changed: int = 0
    unchanged: int = 0

    def count(self, before: bool, changed: bool) -> None:
        """One more row; `before`: it was there, `changed`: with other values."""
        if not before:
            self.new += 1
        elif changed:
            self.changed += 1
        else:
            self.unchanged += 1


class ImportReport(BaseModel):
    members: Changes = Field(default_factory=Changes)
    policies: Changes = Field(default_factory=Changes)
    claims: Changes = Field(default_factory=Changes)


class PolicyOut(BaseModel):
    number: str
    product: str
    starts_on: date
    ends_on: date | None
    limits: dict[str, str]

    @classmethod
    def of(cls, policy: Policy) -> Self:
        return cls(
            number=policy.number,
            product=policy.product,
            starts_on=policy.starts_on,
            ends_on=policy.ends_on,
            limits={benefit: money(limit, policy.currency) for benefit, limit in sorted(policy.limits.items())},
        )


class ClaimOut(BaseModel):
    number: str
    policy: str
    benefit: str
    state: ClaimState
    claimed: str
    paid: str
    incurred_on: date

    @classmethod
    def of(cls, claim: Claim, policy: Policy) -> Self:
        return cls(
            number=claim.number,
            policy=policy.number,
            benefit=claim.benefit,
            state=ClaimState(claim.state),
            claimed=money(claim.amount_claimed, policy.currency),
            paid=money(claim.amount_paid, policy.currency),
            incurred_on=claim.incurred_on,
        )


class ClaimDetail(ClaimOut):
    product: str
    note: str
    updated_at: datetime

    @classmethod
    def of(cls, claim: Claim, policy: Policy) -> Self:
        base = ClaimOut.of(claim, policy).model_dump()
        return cls(**base, product=policy.product, note=claim.note, updated_at=claim.updated_at)


class ClaimPage(BaseModel):
    items: list[ClaimOut]
    next_cursor: str | None


class BalanceOut(BaseModel):
    """`pending` is what open claims ask for; it is not taken off `left` yet."""

    policy: str
    product: str
    benefit: str
    limit: str
    paid: str
    pending: str
    left: str

    @classmethod
    def of(cls, balance: Balance) -> Self:
        policy = balance.policy
        return cls(
            policy=policy.number,
            product=policy.product,
            benefit=balance.benefit,
            limit=money(balance.limit, policy.currency),
            paid=money(balance.paid, policy.currency),
            pending=money(balance.pending, policy.currency),
            left=money(balance.left, policy.currency),
        )


class Balances(BaseModel):
    year: int
    balances: list[BalanceOut]


State = Annotated[str, Field(pattern=f"^({'|'.join([OPEN_CLAIMS, *ClaimState])})$")]
"""A state of `ClaimState`, or `open` for all that are not settled."""


def claim_filter(state: str | None, year: int | None) -> ClaimFilter:
    if state is None:
        return ClaimFilter(year=year)
    return ClaimFilter(OPEN if state == OPEN_CLAIMS else (ClaimState(state),), year)
