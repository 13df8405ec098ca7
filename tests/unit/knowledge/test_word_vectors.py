"""Our arithmetic over WordLlama's files, beside the package's own."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import app.knowledge.word_vectors as room
from app.errors import ConfigError
from app.knowledge.word_vectors import BATCH, DIMENSION, WordVectors


@pytest.fixture(scope="module")
def package() -> Any:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    import wordllama

    # Importing it sets the program's logging up.
    root.handlers[:] = handlers
    root.setLevel(level)
    return wordllama.WordLlama.load(cache_dir=str(Path(wordllama.__file__).parent), disable_download=True)


@pytest.fixture(scope="module")
def vectors() -> WordVectors:
    return WordVectors.open()


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=8))
def test_they_are_the_packages(package: Any, vectors: WordVectors, texts: list[str]) -> None:
    np.testing.assert_allclose(vectors.embed(texts), package.embed(texts), atol=1e-6)


def test_more_texts_than_a_batch_keep_their_places(vectors: WordVectors) -> None:
    texts = [f"sensor {number}" if number % 3 else "" for number in range(2 * BATCH + 5)]
    together = vectors.embed(texts)
    assert together.shape == (len(texts), DIMENSION)
    for number in (1, BATCH - 1, BATCH, BATCH + 2, 2 * BATCH + 4):
        np.testing.assert_allclose(together[number], vectors.embed([texts[number]])[0], atol=1e-6)
    assert not together[0].any()
    assert together[1].any()


def test_no_text_is_no_row(vectors: WordVectors) -> None:
    assert vectors.embed([]).shape == (0, DIMENSION)


def test_a_package_without_its_weights_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_WEIGHTS", "weights/none.safetensors")
    with pytest.raises(ConfigError, match="without its weights"):
        WordVectors.open()
