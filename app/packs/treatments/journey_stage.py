"""The journey agent: what each history amounts to, whom the customer is like, and what they may have."""

from datetime import datetime, timedelta

from app.pack import Kit
from app.packs.treatments.catalogue import CatalogueIn
from app.packs.treatments.eligibility import eligibility
from app.packs.treatments.features import features_of, words_of
from app.packs.treatments.fingerprint import fingerprint_of, traits_of, vector_of
from app.packs.treatments.stages import History, Journey, JourneyAnswered, JourneyAsked, SetAside
from app.packs.treatments.versions import Catalogues

STAGE = "journey"


class JourneyStage:
    """Handles `stages.JOURNEY`: a function of the message and the catalogue's version."""

    def __init__(self, kit: Kit) -> None:
        self._catalogues = Catalogues(kit)

    async def handle(self, asked: JourneyAsked) -> JourneyAnswered:
        """Raises NotFound where the version of the catalogue is not there."""
        catalogue = await self._catalogues.content(asked.tenant_id, asked.catalogue_version)
        journeys: list[Journey] = []
        set_aside: list[SetAside] = []
        for history in asked.histories:
            try:
                journeys.append(journey_of(history, catalogue, asked.catalogue_version, asked.as_of))
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                why = f"The history cannot be reckoned with ({type(error).__name__}: {str(error)[:200]})."
                set_aside.append(SetAside(history.customer_id, STAGE, why))
        return JourneyAnswered(journeys, set_aside)


def journey_of(history: History, catalogue: CatalogueIn, version: int, as_of: datetime) -> Journey:
    features = features_of(history, as_of, catalogue.window_days)
    traits = traits_in(history, catalogue, features)
    may = eligibility(catalogue, history, as_of)
    return Journey(
        customer_id=history.customer_id,
        fair_group=history.fair_group,
        worth_micros=history.worth_micros,
        features=features,
        traits=traits,
        fingerprint=fingerprint_of(traits),
        vector=vector_of(traits),
        seen=_seen(history, catalogue.window_days, version, as_of),
        allowed=may.allowed,
        refused=may.refused,
    )


def traits_in(history: History, catalogue: CatalogueIn, features: dict[str, float]) -> dict[str, str]:
    """The words that the fingerprint is made of."""
    return traits_of(words_of(history, features), history.segment, history.attributes, catalogue.described_by)


def _seen(history: History, window_days: int, version: int, as_of: datetime) -> dict[str, str | int | float]:
    """What the decision rests on, beside features and traits, for whoever asks later."""
    return {
        "since": (as_of - timedelta(days=window_days)).isoformat(),
        "until": as_of.isoformat(),
        "events": history.total,
        "events_digest": history.digest,
        "catalogue_version": version,
    }
