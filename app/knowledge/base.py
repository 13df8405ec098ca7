"""The types and protocols of the room: the embedded engine and a server stand behind the same ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Namespace(NamedTuple):
    """Whose index: nothing is ever read or written across two namespaces."""

    tenant_id: str
    bot: str
    generation: str = ""
    """Which of the bot's indexes; "" is the first. What answers is decided by `app.knowledge.generations`."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document.

    Args:
        id: `chk_` and a hash of document, heading path and text: the same piece keeps its id when re-ingested.
        ordinal: its place in the document, from 0.
        heading: the path of headings above it, joined with ` > `; the document's title comes first.
        text: the piece itself, without the path.
    """

    id: str
    document_id: str
    slug: str
    title: str
    heading: str
    ordinal: int
    text: str
    tags: tuple[str, ...] = ()

    @property
    def indexed_text(self) -> str:
        """What is matched by word: the path gives a short piece its context."""
        return f"{self.heading}\n{self.text}"

    @property
    def embedded_text(self) -> str:
        """What is embedded: the path twice, for one vector of a long piece says little of the words that name it."""
        return f"{self.heading}\n{self.indexed_text}"


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that a store found, with the raw signals.

    Args:
        fused: 0 to 1, see `app.knowledge.ranking.fuse`; orders the hits of one search, means nothing across two.
        cosines: similarity to each of the query's vectors, -1 to 1.
        lexical: BM25 over ln(1 + chunks of the namespace): 1 is a word that only this chunk holds; 0 is no
            word of the query, or a place below the candidates.
        vector: float32 of shape (dimension,), of length 1.
    """

    chunk: Chunk
    fused: float
    cosines: tuple[float, ...]
    lexical: float
    vector: Vectors = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Passage:
    """Evidence.

    Args:
        score: 0 to 1, the calibrated chance that the passage bears on the query.
        weak: the score is under the floor that was measured to part evidence from chance matches.
    """

    chunk_id: str
    document_id: str
    slug: str
    title: str
    heading: str
    text: str
    score: float
    weak: bool


class Embedder(Protocol):
    """Texts to unit vectors."""

    @property
    def name(self) -> str:
        """Names the model: vectors of two names are never compared."""

    @property
    def dimension(self) -> int: ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Float32 of shape (len(texts), dimension), each row of length 1, or 0 for a text without a token.

        Raises Unavailable where a remote model does not answer.
        """


class VectorStore(Protocol):
    """Chunks and their vectors by namespace. A namespace that was never written to is empty, not an error."""

    async def ensure(self, namespace: Namespace, dimension: int) -> None:
        """Makes the namespace's index where it is missing; one of another dimension is emptied and made anew, for
        its vectors are of an embedder that no longer answers for it."""

    async def upsert(self, namespace: Namespace, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Durable when it returns; makes the index where it is missing.

        Raises ValueError where there are not as many vectors as chunks, or they are not of the index's dimension.
        """

    async def delete(self, namespace: Namespace, document_ids: Sequence[str]) -> None: ...

    async def delete_chunks(self, namespace: Namespace, chunk_ids: Sequence[str]) -> None: ...

    async def drop(self, namespace: Namespace) -> None:
        """Removes the whole namespace."""

    async def search(
        self,
        namespace: Namespace,
        vectors: Vectors,
        text: str,
        limit: int,
        dense_weight: float = 0.7,
        tags: Sequence[str] = (),
        document_ids: Sequence[str] = (),
    ) -> list[Hit]:
        """Hybrid search, best first.

        Args:
            vectors: float32 of shape (wordings of one question, dimension); a chunk's place among the vectors
                is that of its best wording. A row of zeros is left out.
            text: the words to match.
            limit: hits at most.
            dense_weight: 0 (words only) to 1 (vectors only).
            tags: where given, only chunks that carry one of them.
            document_ids: where given, only chunks of these documents.
        """

    async def chunk_ids(self, namespace: Namespace, document_id: str | None = None) -> Mapping[str, frozenset[str]]:
        """What is stored: the chunk ids of each document id, or of the one that is named."""

    async def count(self, namespace: Namespace) -> int: ...

    async def close(self) -> None: ...


class Text(Protocol):
    """What was read out of a file: Markdown, the title that the file gives itself, what was repaired or left out."""

    @property
    def title(self) -> str | None: ...
    @property
    def text(self) -> str: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...


class Reader(Protocol):
    async def text(self, content: bytes, media_type: str, file_name: str | None) -> Text:
        """Raises InvalidInput, with a sentence that names the file and what to do."""
