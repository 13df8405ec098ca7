"""The embedders that an index may be made with, by name."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from app.errors import ConfigError
from app.knowledge.base import Embedder, Vectors
from app.knowledge.embedders import WordLlamaEmbedder, unit

FAMILY = "wordllama-l2-supercat"
# Trained so that the first numbers of a vector are a vector by themselves (Kusupati et al., "Matryoshka
# Representation Learning", NeurIPS 2022); these are the sizes that the model was trained for.
TRUNCATIONS = (128, 64)


class Embedders:
    """The settings' embedder, which answers where a generation names none, and others beside it."""

    def __init__(self, default: Embedder, others: Iterable[Embedder] = ()) -> None:
        self.default = default
        self._known = {embedder.name: embedder for embedder in (default, *others)}

    @property
    def names(self) -> tuple[str, ...]:
        """The default first."""
        return tuple(self._known)

    def get(self, name: str) -> Embedder:
        """Also by a short name (`wordllama-128`). Raises ConfigError for one that the settings do not offer."""
        found = self._known.get(name) or self._known.get(name.replace("wordllama", FAMILY, 1))
        if found is None:
            raise ConfigError(
                f"The embedder '{name[:80]}' is none of this installation's ({', '.join(self.names)}): set the "
                "TRELLIS_EMBEDDING settings that it needs."
            )
        return found


class LateWordLlama:
    """WordLlama, loaded in a thread when it is first used: its tokenizer takes 20 MB that most never need."""

    name = WordLlamaEmbedder.name
    dimension = WordLlamaEmbedder.dimension

    def __init__(self, load: Callable[[], WordLlamaEmbedder] = WordLlamaEmbedder) -> None:
        self._load = load
        self._loaded: asyncio.Future[WordLlamaEmbedder] | None = None

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if self._loaded is None:
            self._loaded = asyncio.ensure_future(asyncio.to_thread(self._load))
        # Shielded: one caller that gives up must not take the model from the others.
        model = await asyncio.shield(self._loaded)
        return await model.embed(texts)

    async def close(self) -> None:
        if self._loaded is not None:
            await (await self._loaded).close()


class Truncated:
    """The first numbers of another embedder's vectors, brought back to length 1."""

    def __init__(self, whole: Embedder, name: str, dimension: int) -> None:
        self._whole = whole
        self.name = name
        self.dimension = dimension

    async def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = await self._whole.embed(texts)
        return unit(np.ascontiguousarray(vectors[:, : self.dimension]))


def wordllama_family(whole: Embedder) -> tuple[Embedder, ...]:
    """WordLlama and its shorter vectors; `whole` gives all 256 numbers."""
    return (whole, *(Truncated(whole, f"{FAMILY}-{dimension}", dimension) for dimension in TRUNCATIONS))
