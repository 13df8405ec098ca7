"""The learned score as served: an additive model over bins, read from a JSON artifact.

Pure Python on purpose: a score is a dozen table look-ups, and its explanation is the same dozen numbers.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Final, Literal, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from app.errors import ConfigError
from app.packs.leads.scoring.features import Attributes, Feature, FeatureSpec, LeakingFeature, shown

SCHEMA: Final = "trellis.lead-score/1"


class BadScoreModel(ConfigError):
    """An artifact that is no valid lead score."""

    code, title = "bad-score-model", "The lead score's file cannot be used"


class Contribution(NamedTuple):
    """What one feature (or rule) adds: `log_odds` is relative to an average lead of the training rows."""

    feature: str
    value: str
    log_odds: float


@dataclass(frozen=True, slots=True)
class Score:
    """A probability of conversion with its reasons.

    Attributes:
        probability: 0 to 1.
        contributions: largest effect first; with `baseline` they add up to the probability's log-odds.
        baseline: log-odds of the average lead.
    """

    probability: float
    contributions: tuple[Contribution, ...]
    baseline: float


def sigmoid(log_odds: float) -> float:
    """The probability of the log-odds, without overflow at either end."""
    if log_odds >= 0:
        return 1.0 / (1.0 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1.0 + odds)


def explain(baseline: float, parts: list[Contribution]) -> Score:
    """Sum the parts on top of the baseline; the largest come first, equal ones in their given order."""
    total = baseline + math.fsum(part.log_odds for part in parts)
    parts.sort(key=lambda part: -abs(part.log_odds))
    return Score(sigmoid(total), tuple(parts), baseline)


@dataclass(frozen=True, slots=True)
class Training:
    """What the model was fitted on."""

    rows: Annotated[int, Field(ge=1)]
    positives: Annotated[int, Field(ge=1)]
    outcome: str


@dataclass(frozen=True)
class ScoreModel:
    """Calibrated additive model: log-odds = intercept + the weight of each feature's bin.

    Attributes:
        intercept: log-odds of an average lead at the present base rate.
        features: the bins.
        weights: for each feature, one log-odds for each of its bins.
        training: what it was fitted on.

    Raises:
        ValueError: the weights do not match the bins.
        LeakingFeature: a feature is known only after the outcome.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    intercept: float
    features: tuple[Annotated[Feature, Field(discriminator="kind")], ...]
    weights: tuple[tuple[float, ...], ...]
    training: Training
    schema: Literal["trellis.lead-score/1"] = SCHEMA

    def __post_init__(self) -> None:
        FeatureSpec(self.features)
        if tuple(map(len, self.weights)) != tuple(feature.size for feature in self.features):
            raise ValueError("every bin of every feature needs exactly one weight")

    @cached_property
    def version(self) -> str:
        """Names exactly this model on a decision: changes with any weight."""
        return "score-" + hashlib.sha256(self.to_json()).hexdigest()[:12]

    def score(self, attributes: Attributes) -> Score:
        """Score one lead; unknown attributes are ignored, missing or unreadable ones have weights of their own."""
        parts = []
        for feature, weights in zip(self.features, self.weights, strict=True):
            value = attributes.get(feature.name)
            parts.append(Contribution(feature.name, shown(value), weights[feature.bin(value)]))
        return explain(self.intercept, parts)

    def evidence(self, attributes: Attributes) -> float:
        """Log-odds of the lead without the intercept."""
        pairs = zip(self.features, self.weights, strict=True)
        return math.fsum(weights[feature.bin(attributes.get(feature.name))] for feature, weights in pairs)

    def to_json(self) -> bytes:
        return _ARTIFACT.dump_json(self, indent=1) + b"\n"

    @classmethod
    def from_json(cls, artifact: bytes, source: str = "the artifact") -> "ScoreModel":
        """Read an artifact.

        Raises:
            BadScoreModel: names the source and the first thing that is wrong in it.
        """
        try:
            return _ARTIFACT.validate_json(artifact)
        except LeakingFeature as error:
            raise _bad(source, error.detail) from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            raise _bad(source, f"{where}: {first['msg']}.") from error


def _bad(source: str, why: str) -> BadScoreModel:
    return BadScoreModel(
        f"{source} is no lead score of schema {SCHEMA}: {why} Train it again with `trellis leads train`."
    )


_ARTIFACT: Final[TypeAdapter[ScoreModel]] = TypeAdapter(ScoreModel)
