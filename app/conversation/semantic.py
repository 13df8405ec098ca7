"""Answers given again to a question that means the same: vectors of questions beside the bot's knowledge.

The answers themselves are in the cache of answers, so whatever drops them there (a document, a bot, a person) drops
them here. A vector belongs to one tenant and one bot by its namespace, and by a tag to one state of the knowledge and
the settings. The nearest are only looked at: whether one asks the same is for `sameness` to say. A question with a
figure or with personal data in it takes no part: "5 users" and "50 users" are near to an embedder, not to a price list.
An answer that repeats words of its question (a name, what somebody does) is for those who say these words themselves.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from cachetools import LRUCache

from app.conversation.echoes import words
from app.conversation.sameness import Sameness
from app.governance.privacy import scrub
from app.knowledge.base import Chunk, Embedder, Namespace, VectorStore

GENERATION: Final = "~answers"
MOST_QUESTIONS: Final = 5_000
LOOKED_AT: Final = 8
DEFAULT_SEMANTIC_THRESHOLD: Final = 0.99
"""Of `Sameness.score`. Chosen by `trellis eval cache`; docs/decisions/0015 has the figures."""
_COUNT_EVERY: Final = 256
_PREFIX: Final = "chk_"


class SemanticAnswers:
    """Keys of answers by the meaning of their questions. `embedder` is WordLlama: `sameness` was measured with it."""

    def __init__(
        self, store: VectorStore, embedder: Embedder, sameness: Sameness, *, most: int = MOST_QUESTIONS
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._sameness = sameness
        self._most = most
        self._puts: LRUCache[Namespace, int] = LRUCache(10_000)

    async def nearest(
        self, tenant_id: str, bot: str, ground: str, question: str, threshold: float
    ) -> tuple[str, float] | None:
        """The key of an answer on the same ground that this question may be given, and how sure it is that both
        questions ask the same (`Sameness.score`), where that reaches the threshold."""
        if not shareable(question):
            return None
        vectors = await self._embedder.embed([question])
        hits = await self._store.search(
            _namespace(tenant_id, bot), vectors, "", LOOKED_AT, dense_weight=1.0, tags=[_tag(ground)]
        )
        said = words(question)
        scored = [
            (hit.chunk.id.removeprefix(_PREFIX), self._sameness.score(question, hit.chunk.text, hit.cosines[0]))
            for hit in hits
            if said.issuperset(hit.chunk.heading.split())
        ]
        best = max(scored, key=lambda found: found[1], default=None)
        return None if best is None or best[1] < threshold else best

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
        """Remembers the question of an answer, where it is `shareable`.

        Args:
            echoed: what the answer repeats of the question, see `echoes`; kept as the chunk's heading.
            key: 32 hexadecimal digits, as `keys.answer_key` makes them: stores take no other ids.
            asker: who asked, for `forget`.
        """
        if not shareable(question):
            return
        namespace = _namespace(tenant_id, bot)
        await self._keep_small(namespace)
        heading = " ".join(sorted(echoed))
        chunk = Chunk(_PREFIX + key, _asker(asker), "", "", heading, 0, question, (_tag(ground),))
        vectors = await self._embedder.embed([question])
        await self._store.ensure(namespace, self._embedder.dimension)
        await self._store.upsert(namespace, [chunk], vectors)

    async def remove(self, tenant_id: str, bot: str, key: str) -> None:
        """For an answer that is no longer there."""
        await self._store.delete_chunks(_namespace(tenant_id, bot), [_PREFIX + key])

    async def forget(self, tenant_id: str, bot: str, asker: str) -> None:
        """Erases a person's questions to the bot, and everybody else's with them where there are any of theirs.

        The embedded engine's log keeps the text of a point that was deleted; it goes with its whole index alone. What
        the others lose is a saving.
        """
        namespace = _namespace(tenant_id, bot)
        if await self._store.chunk_ids(namespace, _asker(asker)):
            await self._store.drop(namespace)

    async def drop(self, tenant_id: str, bot: str) -> None:
        """Erases every vector of the bot's questions."""
        await self._store.drop(_namespace(tenant_id, bot))

    async def _keep_small(self, namespace: Namespace) -> None:
        """Vectors of old grounds are never found again: when there are too many, all go."""
        puts = self._puts.get(namespace, 0)
        self._puts[namespace] = puts + 1
        if puts % _COUNT_EVERY == 0 and await self._store.count(namespace) >= self._most:
            await self._store.drop(namespace)


def shareable(question: str) -> bool:
    """Whether its answer may be another's: no figure, no personal data shows in it."""
    return not any(character.isdigit() for character in question) and scrub(question) == question


def _namespace(tenant_id: str, bot: str) -> Namespace:
    return Namespace(tenant_id, bot, GENERATION)


def _tag(ground: str) -> str:
    return hashlib.blake2b(ground.encode(), digest_size=16).hexdigest()


def _asker(asker: str) -> str:
    return f"asker_{hashlib.blake2b(asker.encode(), digest_size=16).hexdigest()}"
