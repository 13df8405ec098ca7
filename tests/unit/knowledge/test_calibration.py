"""What a cosine is worth: WordLlama's as fitted, any other embedder's in its own units."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Unavailable
from app.knowledge.base import Embedder, Vectors
from app.knowledge.calibration import (
    LEAST_SPAN,
    WORDLLAMA_CALIBRATION,
    WORDLLAMA_SPREAD,
    Calibrations,
    Spread,
    linked,
    measure,
)
from app.knowledge.embedders import WordLlamaEmbedder, unit
from tests.support.vectors import WordsEmbedder

LEXICAL = 0.3


class Crowded:
    """An embedder to which any two texts have a cosine of about 0.8."""

    name, dimension = "crowded", 257

    def __init__(self, whole: Embedder) -> None:
        self._whole = whole
        self.calls = 0

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.calls += 1
        vectors = await self._whole.embed(texts)
        return unit(np.hstack([vectors, np.full((len(texts), 1), 2.0, np.float32)]))


@pytest.fixture(scope="module")
def wordllama() -> WordLlamaEmbedder:
    return WordLlamaEmbedder()


async def test_wordllama_is_as_it_was_fitted_and_spread_as_noted(wordllama: WordLlamaEmbedder) -> None:
    assert await Calibrations().of(wordllama) is WORDLLAMA_CALIBRATION
    spread = await measure(wordllama)
    assert (spread.related, spread.unrelated) == pytest.approx(
        (WORDLLAMA_SPREAD.related, WORDLLAMA_SPREAD.unrelated), abs=0.001
    )


def test_the_fitted_embedder_linked_to_itself_stays_as_it_is() -> None:
    same, fitted = linked(WORDLLAMA_SPREAD), WORDLLAMA_CALIBRATION
    assert (same.cosine, same.intercept) == pytest.approx((fitted.cosine, fitted.intercept))
    assert (same.lexical, same.floor) == (fitted.lexical, fitted.floor)


async def test_an_embedder_whose_cosines_are_all_high_is_not_believed(wordllama: WordLlamaEmbedder) -> None:
    crowded = Crowded(wordllama)
    calibration = await Calibrations().of(crowded)
    question, answer, other = "What is the price?", "How much it costs", "The cat sleeps on the sofa"
    rows = await crowded.embed([question, answer, other])
    near, far = float(rows[0] @ rows[1]), float(rows[0] @ rows[2])
    assert far > 0.7
    assert WORDLLAMA_CALIBRATION.score(far, LEXICAL) > 0.3
    plain = await wordllama.embed([question, answer, other])
    for crowded_cosine, cosine in ((near, plain[0] @ plain[1]), (far, plain[0] @ plain[2])):
        wanted = WORDLLAMA_CALIBRATION.score(float(cosine), LEXICAL)
        assert calibration.score(crowded_cosine, LEXICAL) == pytest.approx(wanted, abs=0.05)


async def test_an_embedder_is_measured_once(wordllama: WordLlamaEmbedder) -> None:
    calibrations, crowded = Calibrations(), Crowded(wordllama)
    assert await calibrations.of(crowded) == await calibrations.of(crowded)
    assert crowded.calls == 1


async def test_one_that_was_away_is_measured_the_next_time() -> None:
    calibrations, embedder = Calibrations(), WordsEmbedder()
    embedder.error = Unavailable("away", retry_after=1)
    with pytest.raises(Unavailable):
        await calibrations.of(embedder)
    embedder.error = None
    assert (await calibrations.of(embedder)).cosine > 0


@given(st.floats(-0.2, 0.9), st.floats(LEAST_SPAN + 1e-6, 0.9))
def test_the_anchors_of_any_embedder_count_as_the_fitted_ones_do(unrelated: float, span: float) -> None:
    calibration = linked(Spread(unrelated + span, unrelated))
    for own, fitted in (
        (unrelated, WORDLLAMA_SPREAD.unrelated),
        (unrelated + span, WORDLLAMA_SPREAD.related),
    ):
        wanted = WORDLLAMA_CALIBRATION.score(fitted, LEXICAL)
        assert calibration.score(own, LEXICAL) == pytest.approx(wanted, abs=1e-6)


@given(st.floats(-1, 1), st.floats(-1, LEAST_SPAN - 0.01))
def test_one_that_cannot_tell_texts_apart_leaves_the_words_to_decide(cosine: float, span: float) -> None:
    calibration = linked(Spread(0.5 + span, 0.5))
    assert calibration.cosine == 0
    unrelated = WORDLLAMA_CALIBRATION.score(WORDLLAMA_SPREAD.unrelated, LEXICAL)
    assert calibration.score(cosine, LEXICAL) == pytest.approx(unrelated)
