"""What may be done for a customer, and within which limits: one versioned document a tenant."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import InvalidInput, NotFound
from app.packs.treatments.models import Catalogue
from app.storage.base import MICROS
from app.storage.repository import TenantRepository

NAME: Final = r"^[a-z][a-z0-9_]{0,39}$"
Share = Annotated[float, Field(ge=0, le=1)]
Usd = Annotated[float, Field(ge=0, le=1_000_000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Condition(_Part):
    """On one attribute of a customer: its value is one of `any_of`, or a number from `at_least` to `at_most`."""

    attribute: str = Field(min_length=1, max_length=60)
    any_of: tuple[str | bool, ...] = ()
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Condition":
        if not self.any_of and self.at_least is None and self.at_most is None:
            raise ValueError(f"the condition on '{self.attribute}' says nothing: give any_of, at_least or at_most")
        return self


class Treatment(_Part):
    """One thing that may be done. `gain` is the part of a customer's worth that a success brings.

    `base_chance` is the chance of success that is assumed before any case is known. Within `cooldown_days` of having
    had it, a customer does not get it again. A higher `priority` (a weight on its value) goes first where units are
    few.
    """

    name: str = Field(pattern=NAME)
    title: str = Field(min_length=1, max_length=120)
    channel: str = Field("", max_length=40)
    cost_usd: Usd = 0.0
    gain: Share = 1.0
    base_chance: Share = 0.05
    capacity_per_day: int | None = Field(None, ge=0, le=10_000_000)
    cooldown_days: int = Field(0, ge=0, le=3650)
    priority: float = Field(1.0, gt=0, le=10)
    segments: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()

    @property
    def cost_micros(self) -> int:
        return round(self.cost_usd * MICROS)


class Floor(_Part):
    """Of a group's customers who may have any, at least this share gets a treatment (`treatment`; any where None)."""

    group: str = Field(min_length=1, max_length=60)
    share: Share
    treatment: str | None = Field(None, pattern=NAME)


class CatalogueIn(_Part):
    """The whole of it. `window_days` is how far back agents look; `hold_hours` how long a reservation waits for its
    confirmation; `control_share` of the customers get nothing, for the comparison. `traits` names the attributes that
    say what a customer is like: with those of the conditions they are all that a model is shown."""

    treatments: tuple[Treatment, ...] = Field(min_length=1, max_length=50)
    budget_usd_per_day: Usd | None = None
    treatments_per_customer: int = Field(1, ge=1, le=5)
    floors: tuple[Floor, ...] = Field((), max_length=50)
    traits: tuple[str, ...] = Field((), max_length=20)
    control_share: Share = 0.1
    window_days: int = Field(90, ge=1, le=3650)
    hold_hours: float = Field(24, gt=0, le=24 * 90)

    @model_validator(mode="after")
    def _names(self) -> "CatalogueIn":
        names = [treatment.name for treatment in self.treatments]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the treatment '{twice[0]}' is there twice: names are unique")
        unknown = [floor.treatment for floor in self.floors if floor.treatment not in (None, *names)]
        if unknown:
            raise ValueError(f"a floor names the treatment '{unknown[0]}', which the catalogue does not have")
        owed = [(floor.group, floor.treatment) for floor in self.floors]
        again = next((one for one in owed if owed.count(one) > 1), None)
        if again is not None:
            raise ValueError(
                f"the group '{again[0]}' has two floors for {again[1] or 'any treatment'}: keep the higher"
            )
        return self

    @property
    def described_by(self) -> tuple[str, ...]:
        """The attributes that agents look at, in order of their names."""
        named = {condition.attribute for treatment in self.treatments for condition in treatment.conditions}
        return tuple(sorted(named.union(self.traits)))

    @property
    def budget_micros(self) -> int | None:
        return None if self.budget_usd_per_day is None else round(self.budget_usd_per_day * MICROS)

    def treatment(self, name: str) -> Treatment:
        """Raises InvalidInput."""
        found = next((treatment for treatment in self.treatments if treatment.name == name), None)
        if found is None:
            known = ", ".join(treatment.name for treatment in self.treatments)
            raise InvalidInput(f"There is no treatment '{name[:40]}': the catalogue has {known}.")
        return found


class CatalogueRepository(TenantRepository[Catalogue]):
    model = Catalogue
    noun = "catalogue"

    async def newest(self) -> Catalogue | None:
        row: Catalogue | None = (
            await self.session.scalars(self.query().order_by(Catalogue.version.desc()).limit(1))
        ).first()
        return row

    async def version(self, number: int) -> Catalogue:
        """Raises NotFound."""
        row = await self.first(Catalogue.version == number)
        if row is None:
            raise NotFound(f"There is no version {number} of the catalogue of treatments.")
        return row


async def in_force(session: AsyncSession, tenant_id: str) -> tuple[int, CatalogueIn]:
    """The newest version and its number. Raises InvalidInput where the tenant has none yet."""
    row = await CatalogueRepository(session, tenant_id).newest()
    if row is None:
        raise InvalidInput("There is no catalogue of treatments yet: put one with PUT /v1/treatments/catalogue.")
    return row.version, content_of(row)


def content_of(row: Catalogue) -> CatalogueIn:
    content: dict[str, Any] = row.content
    return CatalogueIn.model_validate(content)
