"""Fits how sure it is that two questions ask the same: `app.conversation.sameness.WORDLLAMA_WEIGHTS`.

    python -m tests.perf.fit_sameness [folder of banking77_train.csv]

On each training question of banking77 and its eight nearest others, where the words allow that they are the same;
the same is what has the same intent.
"""

import asyncio
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from sklearn.linear_model import LogisticRegression

from app.conversation.evaluation.banking import FILES, Asked, load
from app.conversation.evaluation.streams import Stream
from app.conversation.sameness import WORDLLAMA_WEIGHTS, Sameness, Weights, tokens
from app.knowledge.base import Vectors
from app.knowledge.embedders import WordLlamaEmbedder
from app.knowledge.language import LanguageGuess

BATCH = 500


async def embedded(questions: list[Asked]) -> Vectors:
    embedder = WordLlamaEmbedder()
    texts = [question.text for question in questions]
    parts = [await embedder.embed(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
    await embedder.close()
    return np.concatenate(parts)


def fit(questions: list[Asked], vectors: Vectors) -> tuple[Weights, int]:
    """The weights, and on how many pairs."""
    sameness = Sameness.load(LanguageGuess.load())
    everything = Stream(questions, vectors, sameness.score, kept=(questions, vectors))
    rows, same = [], []
    for one, other, cosine in everything.pairs():
        shared = sameness.shared(one.text, other.text)
        if shared is not None and tokens(one.text) != tokens(other.text):
            rows.append((cosine**2, shared))
            same.append(one.intent == other.intent)
    model = LogisticRegression(C=10).fit(np.array(rows), same)
    return Weights(*map(float, model.coef_[0]), float(model.intercept_[0])), len(rows)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    questions = list(load(folder / FILES[0]))
    weights, pairs = fit(questions, asyncio.run(embedded(questions)))
    Console().print(f"fitted on {pairs:,} pairs: {weights}\nin use: {WORDLLAMA_WEIGHTS}")


if __name__ == "__main__":
    main()
