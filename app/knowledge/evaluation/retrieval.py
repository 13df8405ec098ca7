"""`trellis eval retrieval`: the ways to search, on Cranfield, through the whole way of a document and a question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from types import MappingProxyType

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from app.knowledge.base import Embedder, Passage
from app.knowledge.evaluation.cranfield import Collection, Judged, load
from app.knowledge.evaluation.measures import chance, ndcg, recall
from app.knowledge.evaluation.workbench import Workbench, workbench
from app.knowledge.retrieve import MAX_LIMIT, SearchOptions

TENANT, BOT = "evaluation", "cranfield"
NDCG_AT, RECALL_AT = 10, 20
HYBRID, REWRITING = "hybrid", "hybrid + rewriting"
WAYS: Mapping[str, SearchOptions] = MappingProxyType(
    {
        "BM25": SearchOptions(dense_weight=0.0, diversity=0.0, rewrite=False),
        "dense": SearchOptions(dense_weight=1.0, diversity=0.0, rewrite=False),
        HYBRID: SearchOptions(diversity=0.0, rewrite=False),
        "hybrid + MMR": SearchOptions(diversity=0.1, rewrite=False),
        REWRITING: SearchOptions(diversity=0.0, rewrite=True),
    }
)
DUELS = ((HYBRID, "BM25"), (HYBRID, "dense"), (REWRITING, HYBRID))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way's figures, one a question: measures 0 to 1, alikeness the mean cosine between two of the first ten
    passages, time in milliseconds."""

    ndcg: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)
    alikeness: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)


async def evaluate(data: Path, console: Console) -> None:
    """Prints the figures of each way, and whether hybrid beats its parts. Raises NotFound where a file is missing."""
    collection = load(data)
    async with workbench() as bench:
        for page in track(collection.pages, "Indexing", console=console, transient=True):
            await bench.ingestor.put(TENANT, BOT, page.slug, page.title, page.text, page.tags)
        outcomes = {name: await _judge(bench, collection.questions, options) for name, options in WAYS.items()}
    console.print(figures(collection, outcomes))
    console.print(significance(outcomes))


async def _judge(bench: Workbench, questions: Sequence[Judged], options: SearchOptions) -> Outcome:
    outcome = Outcome()
    for question in questions:
        started = perf_counter()
        passages = await bench.retriever.search(TENANT, BOT, question.text, limit=MAX_LIMIT, options=options)
        outcome.ms.append(1000 * (perf_counter() - started))
        # A document stands where its best chunk does.
        found = list(dict.fromkeys(passage.slug for passage in passages))
        outcome.ndcg.append(ndcg(found, question.gains, NDCG_AT))
        outcome.recall.append(recall(found, question.gains, RECALL_AT))
        outcome.alikeness.append(await _alikeness(passages[:NDCG_AT], bench.embedder))
    return outcome


async def _alikeness(passages: Sequence[Passage], embedder: Embedder) -> float:
    if len(passages) < 2:
        return 0.0
    vectors = await embedder.embed([f"{passage.heading}\n{passage.text}" for passage in passages])
    above = np.triu_indices(len(passages), k=1)
    return float((vectors @ vectors.T)[above].mean())


def figures(collection: Collection, outcomes: Mapping[str, Outcome]) -> Table:
    """The second figures are of every other question, which no choice of ours was made by."""
    title = f"Cranfield: {len(collection.pages):,} documents, {len(collection.questions)} questions"
    table = Table(
        title=title,
        caption=f"gain 4 for grade 1 to 1 for grade 4; a document stands where its best passage does; {MAX_LIMIT} "
        "passages a search, nothing cached; alike: mean cosine between two of the first ten passages",
    )
    columns = (f"nDCG@{NDCG_AT}", f"Recall@{RECALL_AT}", f"nDCG@{NDCG_AT}, held out", f"Recall@{RECALL_AT}, held out")
    for column in ("way", *columns, "alike", "p50 ms"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, outcome in outcomes.items():
        measures = (outcome.ndcg, outcome.recall, outcome.ndcg[1::2], outcome.recall[1::2], outcome.alikeness)
        table.add_row(name, *(f"{np.mean(values):.4f}" for values in measures), f"{np.median(outcome.ms):.1f}")
    return table


def significance(outcomes: Mapping[str, Outcome]) -> Table:
    """Whether hybrid beats its parts, and rewriting hybrid, by more than the choice of questions."""
    table = Table(title="paired bootstrap, one-sided p")
    for column in ("way", "against", "measure", "difference", "p"):
        table.add_column(column, justify="right" if column in ("difference", "p") else "left")
    for way, against in DUELS:
        ours, theirs = outcomes[way], outcomes[against]
        rows = ((f"nDCG@{NDCG_AT}", ours.ndcg, theirs.ndcg), (f"Recall@{RECALL_AT}", ours.recall, theirs.recall))
        for measure, one, other in rows:
            difference = np.mean(one) - np.mean(other)
            table.add_row(way, against, measure, f"{difference:+.4f}", f"{chance(one, other):.4f}")
    return table
