"""`trellis eval cache`: how often answers by meaning are given, and to the wrong question, on banking77."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from app.agent.model import Usage
from app.agent.prices import Prices
from app.agent.providers import DEFAULT_MODEL
from app.clock import system_clock
from app.conversation.evaluation.banking import FILES, Asked, load
from app.conversation.evaluation.chart import Curve, chart
from app.conversation.evaluation.streams import SEED, Outcome, Scorer, Stream
from app.conversation.sameness import Sameness
from app.conversation.semantic import DEFAULT_SEMANTIC_THRESHOLD
from app.knowledge.base import Vectors
from app.knowledge.embedders import WordLlamaEmbedder
from app.knowledge.language import LanguageGuess

LIMIT: Final = 0.01
"""Of the answers that are given, how many may be to another intent."""
CHOSEN_UNDER: Final = 0.7 * LIMIT
"""The share on the training questions: the rest of the limit is for what other questions bring."""
THRESHOLDS: Final = (
    *(0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.965, 0.97, 0.975),
    *(0.98, 0.9825, 0.985, 0.9875, 0.99, 0.9925, 0.995),
)
FILLED, PREFILLED = "filling", "pre-filled"
"""By its misses; with every training question."""
TURN: Final = Usage(input_tokens=1_500, output_tokens=200)
"""An avoided turn: a system text, five passages and a question, and a paragraph in answer."""
_PROVIDER: Final = "openai"
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class _Half:
    """The questions of one file in an order of chance, and their vectors."""

    asked: Sequence[Asked]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class Way:
    """One way to tell the same question from another, over both files and both states of the cache."""

    name: str
    train: Mapping[str, Stream]
    test: Mapping[str, Stream]

    def chosen(self) -> float:
        """The lowest threshold that keeps to `CHOSEN_UNDER` on the training questions, in both states of the cache; 1
        where none does."""
        kept = (
            threshold
            for threshold in THRESHOLDS
            if all(stream.replay(threshold).false_of_hits <= CHOSEN_UNDER for stream in self.train.values())
        )
        return next(kept, 1.0)


async def evaluate(data: Path, console: Console, plot: Path | None = None) -> None:
    """Prints what each threshold gives and costs; writes a picture of it where `plot` names a file (SVG).

    Raises NotFound where a file of the data is missing.
    """
    embedder = WordLlamaEmbedder()
    try:
        train, test = [await _half(load(data / name), embedder) for name in FILES]
    finally:
        await embedder.close()
    ways = [
        _way("cosine", train, test, lambda _one, _other, cosine: cosine),
        _way("words", train, test, Sameness.load(LanguageGuess.load()).score),
    ]
    ours = ways[-1]
    swept = {state: [stream.replay(t) for t in THRESHOLDS] for state, stream in ours.test.items()}
    console.print(comparison(ways))
    for state, outcomes in swept.items():
        console.print(sweep(state, outcomes, dollars_a_turn()))
    console.print(standing(ours))
    console.print(false_hits(ours, DEFAULT_SEMANTIC_THRESHOLD))
    if plot is not None:
        await asyncio.to_thread(plot.write_text, picture(swept, dollars_a_turn()), "utf-8")
        console.print(f"Written: {plot}")


async def _half(questions: Sequence[Asked], embedder: WordLlamaEmbedder) -> _Half:
    order = np.random.default_rng(SEED).permutation(len(questions))
    asked = [questions[index] for index in order]
    texts = [question.text for question in asked]
    parts = [await embedder.embed(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
    return _Half(asked, np.concatenate(parts))


def _way(name: str, train: _Half, test: _Half, score: Scorer) -> Way:
    kept = (train.asked, train.vectors)
    return Way(name, _states(train, kept, score), _states(test, kept, score))


def _states(half: _Half, kept: tuple[Sequence[Asked], Vectors], score: Scorer) -> dict[str, Stream]:
    return {
        FILLED: Stream(half.asked, half.vectors, score),
        PREFILLED: Stream(half.asked, half.vectors, score, kept),
    }


def dollars_a_turn() -> float:
    """What an avoided turn would have cost today."""
    return Prices.load().cost_micros(_PROVIDER, DEFAULT_MODEL, TURN, system_clock().date()) / 1_000_000


def comparison(ways: Sequence[Way]) -> Table:
    """Each way at the threshold that the training questions choose, on the others."""
    table = Table(
        title=f"Chosen for {CHOSEN_UNDER:.1%} false hits on the training questions; on the test questions:",
        caption="train, false: the answer is to a question of another intent, of the hits and of all; below a rate "
        "its 95 % interval by bootstrap over questions; same: the same words under two intents, not called false",
        box=SIMPLE,
        pad_edge=False,
    )
    for column in ("way", "cache", "from", "train", "hits", "false", "of all", "same"):
        table.add_column(column, justify="left" if column in ("way", "cache") else "right", no_wrap=True)
    for way in ways:
        threshold = way.chosen()
        for state, stream in way.test.items():
            before = way.train[state].replay(threshold).false_of_hits
            measured = _measured(stream.replay(threshold))
            table.add_row(way.name, state, f"{threshold:.4g}", _percent(before), *measured)
    return table


def sweep(state: str, outcomes: Sequence[Outcome], dollars: float) -> Table:
    """Every threshold on the test questions, with words and cosine."""
    table = Table(
        title=f"Cache {state}, test questions",
        caption=f"saved: USD in 1,000 questions, which cost {1_000 * dollars:.3f} without a cache: "
        f"{TURN.input_tokens:,} tokens in and {TURN.output_tokens} out a turn of {DEFAULT_MODEL}; *: the default",
        box=SIMPLE,
    )
    for column in ("threshold", "hits", "false of hits", "false of all", "disputed", "saved"):
        table.add_column(column, justify="right")
    for threshold, outcome in zip(THRESHOLDS, outcomes, strict=True):
        shares = (outcome.hit_rate, outcome.false_of_hits, outcome.false_of_all)
        mark = "*" if threshold == DEFAULT_SEMANTIC_THRESHOLD else ""
        saved = f"{1_000 * dollars * outcome.hit_rate:.3f}"
        table.add_row(f"{mark}{threshold:.4g}", *map(_percent, shares), str(outcome.disputed.sum()), saved)
    return table


def standing(way: Way) -> str:
    """Whether the default is what the training questions choose, and keeps the limit on the test questions."""
    false = {state: stream.replay(DEFAULT_SEMANTIC_THRESHOLD).false_of_hits for state, stream in way.test.items()}
    shown = ", ".join(f"{state} {_percent(share)}" for state, share in false.items())
    verdict = "kept" if max(false.values()) <= LIMIT else "NOT kept"
    return (
        f"Default {DEFAULT_SEMANTIC_THRESHOLD:.4g}; the training questions choose {way.chosen():.4g}. "
        f"False hits on the test questions: {shown}. {LIMIT:.0%} is {verdict}."
    )


def false_hits(way: Way, threshold: float) -> Table:
    """The pairs behind the false hits on the test questions, by their rows in the files, for a reader to judge."""
    table = Table(title=f"False hits at {threshold:.4g}, by row of the file (the first question is 0)", box=SIMPLE)
    for column in ("cache", "test row", "answered as", "its intent", "the other's"):
        table.add_column(column)
    for state, stream in way.test.items():
        for asked, source in stream.mistakes(threshold):
            file = "train" if state == PREFILLED else "test"
            table.add_row(state, str(asked.row), f"{file} {source.row}", asked.intent, source.intent)
    return table


def picture(swept: Mapping[str, Sequence[Outcome]], dollars: float) -> str:
    """The sweep as SVG."""
    curves = [
        Curve(state, [outcome.hit_rate for outcome in outcomes], [outcome.false_of_hits for outcome in outcomes])
        for state, outcomes in swept.items()
    ]
    return chart(THRESHOLDS, curves, default=DEFAULT_SEMANTIC_THRESHOLD, limit=LIMIT, dollars=1_000 * dollars)


def _measured(outcome: Outcome) -> tuple[str, ...]:
    hits, false = outcome.interval()
    return (
        f"{_percent(outcome.hit_rate)}\n{_range(*hits)}",
        f"{_percent(outcome.false_of_hits)}\n{_range(*false)}",
        _percent(outcome.false_of_all),
        str(outcome.disputed.sum()),
    )


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _range(low: float, high: float) -> str:
    return f"({100 * low:.1f}-{100 * high:.1f})"
