"""A question in better words: a follow-up that stands alone, and a vector that leans towards what was found first."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import yaml

from app.knowledge.base import Hit, Vectors
from app.knowledge.language import LanguageGuess

HERE = Path(__file__).parent

FEEDBACK_HITS = 3
FEEDBACK_WEIGHT = 1.0
# A question with fewer words of its own than this leaves out what it is about ("Why?", "In winter?").
FEWEST_WORDS = 2
# One with as many says enough, whatever it points at: "Is it possible to return a sensor that was opened?"
ENOUGH_WORDS = 4
MAX_ADDED_WORDS = 24
_WORD = re.compile(r"\w[\w'’-]*")


def expand(vectors: Vectors, hits: Sequence[Hit], weight: float = FEEDBACK_WEIGHT) -> Vectors:
    """The question's vectors moved towards the mean of the hits' vectors, each of length 1 again.

    Rocchio's feedback (1971) with the first hits taken as relevant, as in pseudo relevance feedback. A row of zeros
    stays one.

    Args:
        vectors: float32 of shape (wordings, dimension).
        hits: what a first search found best, a few.
    """
    if not hits:
        return vectors
    moved = vectors + weight * np.mean([hit.vector for hit in hits], axis=0)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    known = (lengths > 0) & vectors.any(axis=1, keepdims=True)
    result: Vectors = np.divide(moved, lengths, out=np.zeros_like(vectors), where=known)
    return result


class Rewriter(Protocol):
    """Makes a question of a conversation stand alone, for the search."""

    def rewrite(self, question: str, history: Sequence[str]) -> str:
        """The wording to search by; the question as it is where it needs nothing.

        Args:
            history: the user's earlier questions, oldest first.
        """


class FollowUps:
    """`Rewriter` by rules, without a model.

    A short question that points back ("does it float?"), begins as a continuation ("and in the winter months?") or has
    hardly a word of its own is given the content words of the last question that stood alone.
    """

    def __init__(self, words: Mapping[str, str], guess: LanguageGuess) -> None:
        self._pointing, self._filler = (frozenset(words[kind].split()) for kind in ("pointing", "filler"))
        self._opening = re.compile(rf"(?:{'|'.join(words['opening'].split(', '))})\b", re.IGNORECASE)
        self._guess = guess

    @classmethod
    def load(cls, guess: LanguageGuess, path: Path = HERE / "follow_ups.yaml") -> "FollowUps":
        return cls(yaml.safe_load(path.read_text("utf-8")), guess)

    def rewrite(self, question: str, history: Sequence[str]) -> str:
        if not history or not self.leans(question):
            return question
        known = {word.casefold() for word in _WORD.findall(question)}
        earlier = next((said for said in reversed(history) if not self.leans(said)), history[0])
        added = [word for word in self._content(earlier) if word.casefold() not in known]
        return " ".join([question, *dict.fromkeys(added[:MAX_ADDED_WORDS])])

    def leans(self, question: str) -> bool:
        """Whether the question says too little by itself."""
        own = len(self._content(question))
        points = any(word.casefold() in self._pointing for word in _WORD.findall(question))
        opens = self._opening.match(question.strip()) is not None
        return own < FEWEST_WORDS or (own < ENOUGH_WORDS and (points or opens))

    def _content(self, text: str) -> list[str]:
        words = _WORD.findall(text)
        empty = self._filler | self._pointing
        return [word for word in words if word.casefold() not in empty and not self._guess.is_small(word)]
