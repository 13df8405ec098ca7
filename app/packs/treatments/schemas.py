"""What goes in and out of `/v1/treatments/customers`, `/outcomes` and `/catalogue`. Money in US dollars."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.errors import InvalidInput
from app.governance.user_tokens import check_user_id
from app.http.deps import Moment
from app.packs.treatments.catalogue import NAME, CatalogueIn, content_of
from app.packs.treatments.models import Catalogue, Customer, CustomerEvent
from app.storage.base import MICROS, micros

MAX_CUSTOMERS: Final = 20_000
MAX_EVENTS: Final = 200_000
MAX_OUTCOMES: Final = 20_000
MAX_ATTRIBUTES: Final = 60
MAX_USD: Final = 10_000_000
MAX_NUMBER: Final = 1e15
_ATTRIBUTE_CHARS: Final = 500

Worth = Annotated[float, Field(ge=0, le=MAX_USD)]
Amount = Annotated[float, Field(ge=-MAX_USD, le=MAX_USD)]
Attribute = str | int | float | bool


def _opaque(external_id: str) -> str:
    try:
        return check_user_id(external_id)
    except InvalidInput:
        raise ValueError(
            "a customer's id has 1 to 100 letters, digits and '._:|-', and starts with a letter or a digit; "
            "it is no e-mail address"
        ) from None


def attribute_problem(name: Any, value: Any) -> str | None:
    """Why an attribute is not one: flat, short, and of a size that can be reckoned with."""
    if not isinstance(name, str) or not 1 <= len(name) <= 60:
        return "the name of an attribute has 1 to 60 characters"
    if not isinstance(value, str | int | float | bool):
        return f"the attribute '{name}' is no text, number, true or false: attributes are flat"
    if isinstance(value, str):
        return f"the attribute '{name}' is longer than {_ATTRIBUTE_CHARS}" if len(value) > _ATTRIBUTE_CHARS else None
    # Written so that NaN does not pass.
    return None if abs(value) <= MAX_NUMBER else f"the attribute '{name}' is beyond {MAX_NUMBER:g}"


def _flat(attributes: Any) -> Any:
    # Before each is looked at: a hundred thousand wrong ones are one error, not as many.
    if not isinstance(attributes, dict):
        return attributes
    if len(attributes) > MAX_ATTRIBUTES:
        raise ValueError(f"at most {MAX_ATTRIBUTES} attributes")
    problem = next(filter(None, (attribute_problem(name, value) for name, value in attributes.items())), None)
    if problem:
        raise ValueError(problem)
    return attributes


ExternalId = Annotated[str, AfterValidator(_opaque)]
Attributes = Annotated[dict[str, Any], BeforeValidator(_flat)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class EventIn(_In):
    """Something that a customer did, or (kind `contact`) that was done with them. A `response` took up a contact.

    `key` is the event's own in the tenant's system; without one, the same time, kind and so on are the same event.
    """

    key: str | None = Field(None, min_length=1, max_length=64)
    at: Moment
    kind: str = Field(pattern=NAME)
    channel: str = Field("", max_length=40)
    amount_usd: Amount | None = None
    text: str = Field("", max_length=2000)

    @property
    def own_key(self) -> str:
        if self.key is not None:
            return self.key
        said = (self.at.isoformat(), self.kind, self.channel, str(micros(self.amount_usd)), self.text)
        return blake2b("\0".join(said).encode(), digest_size=16).hexdigest()


class CustomerIn(_In):
    """A customer as they are now; `events` are added to those that are known. `worth_usd`: what winning them brings."""

    external_id: ExternalId
    email: str = Field("", max_length=320, pattern=r"^([^@\s]+@[^@\s]+)?$")
    segment: str = Field("", max_length=60)
    fair_group: str = Field("", max_length=60)
    worth_usd: Worth
    attributes: Attributes = Field(default_factory=dict)
    events: list[EventIn] = Field(default_factory=list, max_length=MAX_EVENTS)

    def columns(self) -> dict[str, Any]:
        """The columns of the customer's row that an import sets."""
        return {
            "email": self.email.lower(),
            "segment": self.segment,
            "fair_group": self.fair_group,
            "worth_micros": micros(self.worth_usd),
            "attributes": self.attributes,
        }


class OutcomeIn(_In):
    """What came of a treatment; an empty `treatment`: of none. `key` is the tenant's own, counted once.

    Only outcomes with a `run_id` count in that run's evaluation.
    """

    key: str = Field(min_length=1, max_length=128)
    customer: ExternalId
    treatment: str = Field("", max_length=40)
    run_id: str | None = Field(None, min_length=1, max_length=64)
    success: bool
    value_usd: Amount = 0.0
    at: Moment

    @model_validator(mode="after")
    def _nothing_from_nothing(self) -> Self:
        if self.value_usd and not self.success:
            raise ValueError("'value_usd' is what a success brought: leave it out where there was none")
        return self


class ImportReport(BaseModel):
    """Customers by what became of them; events that were there already are in neither count."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    events_new: int = 0


class OutcomesReport(BaseModel):
    """`known` were recorded before; `cases` is how many groups of alike cases the new ones were counted into."""

    new: int = 0
    known: int = 0
    cases: int = 0


class EventOut(BaseModel):
    key: str
    at: datetime
    kind: str
    channel: str
    amount_usd: float | None
    text: str

    @classmethod
    def of(cls, event: CustomerEvent) -> Self:
        amount = None if event.amount_micros is None else event.amount_micros / MICROS
        return cls(
            key=event.key, at=event.at, kind=event.kind, channel=event.channel, amount_usd=amount, text=event.text
        )


class CustomerOut(BaseModel):
    id: str
    external_id: str
    email: str
    segment: str
    fair_group: str
    worth_usd: float
    attributes: dict[str, Attribute]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Customer, **more: Any) -> Self:
        names = ("id", "external_id", "email", "segment", "fair_group", "attributes", "created_at", "updated_at")
        return cls(**{name: getattr(row, name) for name in names}, worth_usd=row.worth_micros / MICROS, **more)


class CustomerDetail(CustomerOut):
    """`events` are the newest ones of `events_total`, newest first."""

    events: list[EventOut]
    events_total: int

    @classmethod
    def whole(cls, row: Customer, events: Sequence[CustomerEvent], total: int) -> Self:
        return cls.of(row, events=[EventOut.of(event) for event in events], events_total=total)


class CustomerPage(BaseModel):
    items: list[CustomerOut]
    next_cursor: str | None


class CatalogueVersion(BaseModel):
    version: int
    created_at: datetime
    created_by: str
    treatments: list[str]

    @classmethod
    def listed(cls, row: Catalogue) -> Self:
        names = [treatment["name"] for treatment in row.content["treatments"]]
        return cls(version=row.version, created_at=row.created_at, created_by=row.created_by, treatments=names)


class CatalogueVersions(BaseModel):
    items: list[CatalogueVersion]
    next_cursor: str | None


class CatalogueOut(BaseModel):
    """`changed`: this request made the version."""

    version: int
    created_at: datetime
    created_by: str
    catalogue: CatalogueIn
    changed: bool = False

    @classmethod
    def of(cls, row: Catalogue, *, changed: bool = False) -> Self:
        return cls(
            version=row.version,
            created_at=row.created_at,
            created_by=row.created_by,
            catalogue=content_of(row),
            changed=changed,
        )
