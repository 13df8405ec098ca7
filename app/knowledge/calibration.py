"""What a cosine is worth: one embedder's 0.4 is an answer, another's 0.8 says nothing."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import structlog
import yaml

from app.knowledge.base import Embedder
from app.knowledge.ranking import Calibration

REFERENCE = Path(__file__).with_name("calibration.yaml")
# Related and unrelated no further apart than this: the embedder cannot tell them apart, and its cosines say nothing.
LEAST_SPAN = 0.05

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean cosines of an embedder over the reference pairs: question and its passage, question and any other one."""

    related: float
    unrelated: float

    @property
    def span(self) -> float:
        return self.related - self.unrelated


# Fitted by `python -m tests.perf.calibrate_retrieval`, with the spread that this embedder has on the reference pairs.
WORDLLAMA_CALIBRATION = Calibration(cosine=2.9, lexical=6.0, intercept=-4.6, floor=0.5)
WORDLLAMA_SPREAD = Spread(related=0.556, unrelated=0.017)
FITTED: Mapping[str, Calibration] = MappingProxyType({"wordllama-l2-supercat-256": WORDLLAMA_CALIBRATION})


def linked(spread: Spread) -> Calibration:
    """The fitted calibration in another embedder's units.

    Linear linking of two scales by two anchors (Kolen, Brennan, "Test Equating, Scaling, and Linking", 2014): its mean
    cosine of related texts counts as WordLlama's does, its mean of unrelated ones too. The weight of words and the
    floor of 0.5 stay. Where the two lie closer together than 0.05, every cosine counts as that of unrelated texts.
    """
    fitted, known = WORDLLAMA_CALIBRATION, WORDLLAMA_SPREAD
    scale = known.span / spread.span if spread.span >= LEAST_SPAN else 0.0
    shift = known.unrelated - scale * spread.unrelated
    return Calibration(fitted.cosine * scale, fitted.lexical, fitted.intercept + fitted.cosine * shift, fitted.floor)


async def measure(embedder: Embedder, reference: Path = REFERENCE) -> Spread:
    """Embeds the reference pairs in one call. Raises Unavailable where a remote model does not answer."""
    pairs: Sequence[Sequence[str]] = yaml.safe_load(await asyncio.to_thread(reference.read_text, "utf-8"))["pairs"]
    vectors = await embedder.embed([text for pair in pairs for text in pair])
    cosines = vectors[0::2] @ vectors[1::2].T
    own = np.eye(len(pairs), dtype=bool)
    return Spread(float(cosines[own].mean()), float(cosines[~own].mean()))


class Calibrations:
    """The calibration of each embedder: fitted where one was, else measured when it is first asked for, and linked."""

    def __init__(self) -> None:
        self._known = dict(FITTED)

    async def of(self, embedder: Embedder) -> Calibration:
        """Raises Unavailable where a remote embedder has to be measured and does not answer."""
        known = self._known.get(embedder.name)
        if known is None:
            # Two who ask at once measure the same.
            spread = await measure(embedder)
            known = self._known[embedder.name] = linked(spread)
            log.info("embedder calibrated", embedder=embedder.name, related=spread.related, unrelated=spread.unrelated)
        return known
