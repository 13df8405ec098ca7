"""Answers given again to a question that means the same: vectors of questions beside the bot's knowledge.

The answers themselves are in the cache of answers, so whatever drops them there (a document, a bot, a person) drops
them here. A vector belongs to one tenant and one bot by its namespace, and by a tag to one state of the knowledge and
the settings and to the figures in its question: "5 users" and "50 users" are near to an embedder, not to a price list.
An answer that repeats words of its question (a name, what somebody does) is for those who say these words themselves.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Final

from cachetools import LRUCache

from app.conversation.echoes import words
from app.governance.privacy import scrub
from app.knowledge.base import Chunk, Embedder, Namespace, VectorStore

GENERATION: Final = "~answers"
MOST_QUESTIONS: Final = 5_000
_COUNT_EVERY: Final = 256
_LOOKED_AT: Final = 5
_PREFIX: Final = "chk_"
_FIGURE: Final = re.compile(r"\d+(?:[.,]\d+)*")


class SemanticAnswers:
    """Keys of answers by the meaning of their questions."""

    def __init__(self, store: VectorStore, embedder: Embedder, *, most: int = MOST_QUESTIONS) -> None:
        self._store = store
        self._embedder = embedder
        self._most = most
        self._puts: LRUCache[Namespace, int] = LRUCache(10_000)

    async def nearest(
        self, tenant_id: str, bot: str, ground: str, question: str, threshold: float
    ) -> tuple[str, float] | None:
        """The key of the nearest answer on the same ground that this question may be given, and its cosine, where that
        reaches the threshold."""
        vectors = await self._embedder.embed([question])
        hits = await self._store.search(
            _namespace(tenant_id, bot), vectors, "", _LOOKED_AT, dense_weight=1.0, tags=[_tag(ground, question)]
        )
        said = words(question)
        given = [hit for hit in hits if said.issuperset(hit.chunk.text.split())]
        best = max(given, key=lambda hit: hit.cosines[0], default=None)
        if best is None or best.cosines[0] < threshold:
            return None
        return best.chunk.id.removeprefix(_PREFIX), best.cosines[0]

    async def put(
        self,
        tenant_id: str,
        bot: str,
        ground: str,
        question: str,
        key: str,
        asker: str,
        echoed: Iterable[str] = (),
    ) -> None:
        """Remembers the question of an answer, unless personal data shows in it.

        Args:
            echoed: what the answer repeats of the question, see `echoes`.
            key: 32 hexadecimal digits, as `keys.answer_key` makes them: stores take no other ids.
            asker: who asked, for `forget`.
        """
        if scrub(question) != question:
            return
        namespace = _namespace(tenant_id, bot)
        await self._keep_small(namespace)
        chunk = Chunk(_PREFIX + key, _asker(asker), "", "", "", 0, " ".join(sorted(echoed)), (_tag(ground, question),))
        vectors = await self._embedder.embed([question])
        await self._store.ensure(namespace, self._embedder.dimension)
        await self._store.upsert(namespace, [chunk], vectors)

    async def remove(self, tenant_id: str, bot: str, key: str) -> None:
        """For an answer that is no longer there."""
        await self._store.delete_chunks(_namespace(tenant_id, bot), [_PREFIX + key])

    async def forget(self, tenant_id: str, bot: str, asker: str) -> None:
        """Erases the vectors of a person's questions to the bot."""
        await self._store.delete(_namespace(tenant_id, bot), [_asker(asker)])

    async def drop(self, tenant_id: str, bot: str) -> None:
        """Erases every vector of the bot's questions."""
        await self._store.drop(_namespace(tenant_id, bot))

    async def _keep_small(self, namespace: Namespace) -> None:
        """Vectors of old grounds are never found again: when there are too many, all go."""
        puts = self._puts.get(namespace, 0)
        self._puts[namespace] = puts + 1
        if puts % _COUNT_EVERY == 0 and await self._store.count(namespace) >= self._most:
            await self._store.drop(namespace)


def _namespace(tenant_id: str, bot: str) -> Namespace:
    return Namespace(tenant_id, bot, GENERATION)


def _tag(ground: str, question: str) -> str:
    figures = " ".join(sorted(_FIGURE.findall(question)))
    return hashlib.blake2b(f"{ground}\0{figures}".encode(), digest_size=16).hexdigest()


def _asker(asker: str) -> str:
    return f"asker_{hashlib.blake2b(asker.encode(), digest_size=16).hexdigest()}"
