"""Measures retrieval on the shipped sample, and fits the calibration that parts evidence from chance.

    python -m tests.perf.calibrate_retrieval

Questions are those of tests/data/retrieval.yaml (written beside the glossary: an optimistic measure) and the
sample leads' own messages with the pages that their labels name (written by somebody else: the honest one).
The fit uses the written questions and the off-topic ones; the leads only judge it.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression

from app.knowledge.base import Embedder, Vectors
from app.knowledge.calibration import WORDLLAMA_CALIBRATION, linked, measure
from app.knowledge.embedders import WordLlamaEmbedder, unit
from app.knowledge.evaluation.workbench import workbench
from app.knowledge.language import Glossary
from app.knowledge.ranking import Calibration
from app.knowledge.registry import wordllama_family
from app.knowledge.retrieve import Tuning

ROOT = Path(__file__).parents[2]
LEADS = ROOT / "app/packs/leads"
TENANT, BOT = "sample", "leads"


@dataclass(frozen=True)
class Question:
    kind: str
    language: str
    text: str
    pages: frozenset[str]


@dataclass(frozen=True)
class Recording(Calibration):
    """A calibration that also keeps what it was asked to score, in the order of the passages."""

    signals: list[tuple[float, float]] = field(default_factory=list)

    def score(self, cosine: float, lexical: float) -> float:
        self.signals.append((cosine, lexical))
        return super().score(cosine, lexical)


@dataclass(frozen=True)
class Answer:
    question: Question
    slugs: Sequence[str]
    signals: Sequence[tuple[float, float]]

    @property
    def recall(self) -> float:
        return len(self.question.pages & set(self.slugs)) / min(5, len(self.question.pages))

    @property
    def hit(self) -> bool:
        return bool(self.question.pages & set(self.slugs))


def questions() -> list[Question]:
    data = yaml.safe_load((ROOT / "tests/data/retrieval.yaml").read_text("utf-8"))
    asked = [
        Question("written", language, entry["ask"], frozenset(entry["pages"]))
        for language, entries in data["questions"].items()
        for entry in entries
    ]
    off = [
        Question("off topic", language, text, frozenset())
        for language, texts in data["off_topic"].items()
        for text in texts
    ]
    lines = (LEADS / "evals/labels.jsonl").read_text("utf-8").splitlines()
    labels = {label["external_id"]: label for label in map(json.loads, lines)}
    leads = map(json.loads, (LEADS / "sample/leads.jsonl").read_text("utf-8").splitlines())
    held = [
        Question(
            "lead", lead["language"].split("-")[0], lead["message"], frozenset(labels[lead["external_id"]]["evidence"])
        )
        for lead in leads
        if labels[lead["external_id"]]["evidence"]
    ]
    return asked + off + held


def _place(entry: tuple[tuple[str, str], list[int]]) -> tuple[bool, bool]:
    (kind, language), _ = entry
    return kind == "lead", language == "all"


class Crowded:
    """An embedder whose vectors all point the same way, as those of many large models do: WordLlama's with a common
    part, so that texts with nothing in common have a cosine of about 0.8."""

    name, dimension = "crowded-257", 257

    def __init__(self, whole: Embedder) -> None:
        self._whole = whole

    async def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = await self._whole.embed(texts)
        return unit(np.hstack([vectors, np.full((len(texts), 1), 2.0, np.float32)]))


Made = Callable[[Embedder], Embedder]


async def ask(found: Sequence[Question], glossary: Glossary, as_embedded: Made = lambda one: one) -> list[Answer]:
    names = ("cosine", "lexical", "intercept", "floor")
    recording = Recording(*(getattr(WORDLLAMA_CALIBRATION, name) for name in names))
    async with workbench(glossary=glossary, tuning=Tuning(recording), as_embedded=as_embedded) as bench:
        for page in sorted((LEADS / "sample/knowledge").glob("*.md")):
            await bench.ingestor.put_page(TENANT, BOT, page.read_text("utf-8"))
        answers = []
        for question in found:
            recording.signals.clear()
            passages = await bench.retriever.search(TENANT, BOT, question.text)
            answers.append(Answer(question, [passage.slug for passage in passages], list(recording.signals)))
    return answers


def recall_table(plain: Sequence[Answer], full: Sequence[Answer]) -> Table:
    table = Table(title="recall@5 (share of the named pages) / any named page in the first 5")
    for column in ("questions", "language", "n", "without glossary", "with glossary"):
        table.add_column(column)
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, answer in enumerate(full):
        if answer.question.pages:
            groups[answer.question.kind, answer.question.language].append(index)
            groups[answer.question.kind, "all"].append(index)
    for (kind, language), members in sorted(
        groups.items(), key=lambda entry: (entry[0][0] == "lead", entry[0][1] == "all")
    ):
        cells = [
            f"{np.mean([answers[i].recall for i in members]):.2f} / {np.mean([answers[i].hit for i in members]):.2f}"
            for answers in (plain, full)
        ]
        table.add_row(kind, language, str(len(members)), *cells)
    return table


def fit(answers: Sequence[Answer]) -> Calibration:
    """Positives: passages of a named page for a written question. Negatives: all that off-topic questions bring up."""
    rows, marks = [], []
    for answer in answers:
        for slug, (cosine, lexical) in zip(answer.slugs, answer.signals, strict=True):
            if answer.question.kind == "off topic" or (
                answer.question.kind == "written" and slug in answer.question.pages
            ):
                rows.append((cosine, np.log1p(lexical)))
                marks.append(answer.question.kind == "written")
    model = LogisticRegression(C=100).fit(np.array(rows), marks)
    return Calibration(float(model.coef_[0][0]), float(model.coef_[0][1]), float(model.intercept_[0]), 0.5)


def floor_table(answers: Sequence[Answer], calibration: Calibration) -> Table:
    table = Table(title="the floor: what is called evidence")
    for column in ("floor", "off-topic questions with evidence", "named pages kept: written", "leads"):
        table.add_column(column)
    for floor in (0.2, 0.3, 0.4, 0.5, 0.6):
        kept: dict[str, list[bool]] = defaultdict(list)
        for answer in answers:
            scores = [calibration.score(*pair) for pair in answer.signals]
            if answer.question.kind == "off topic":
                kept["off topic"].append(any(score >= floor for score in scores))
            else:
                kept[answer.question.kind] += [
                    score >= floor
                    for slug, score in zip(answer.slugs, scores, strict=True)
                    if slug in answer.question.pages
                ]
        table.add_row(str(floor), *(f"{np.mean(kept[kind]):.0%}" for kind in ("off topic", "written", "lead")))
    return table


async def judge_another(found: Sequence[Question], as_embedded: Made, console: Console) -> None:
    """Another embedder with WordLlama's calibration as it is, and with the one that is linked to it."""
    wordllama = WordLlamaEmbedder()
    embedder = as_embedded(wordllama)
    spread = await measure(embedder)
    await wordllama.close()
    answers = await ask(found, Glossary.load(), as_embedded)
    console.print(f"{embedder.name}, {spread}: not linked, then linked")
    console.print(floor_table(answers, WORDLLAMA_CALIBRATION))
    console.print(floor_table(answers, linked(spread)))


def main() -> None:
    found = questions()
    full = asyncio.run(ask(found, Glossary.load()))
    plain = asyncio.run(ask(found, Glossary({})))
    calibration = fit(full)
    console = Console(width=120)
    console.print(recall_table(plain, full))
    console.print(f"fitted: {calibration}\nin use: {WORDLLAMA_CALIBRATION}")
    console.print("with the calibration in use:")
    console.print(floor_table(full, WORDLLAMA_CALIBRATION))
    for made in (lambda whole: wordllama_family(whole)[-1], Crowded):
        asyncio.run(judge_another(found, made, console))


if __name__ == "__main__":
    main()
