"""`trellis eval leads`: the score on the bank's contacts, then the agent's decisions on labelled leads."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from app.packs.leads.evals import report
from app.packs.leads.evals.cases import Case, holdout_cases, sample_cases
from app.packs.leads.evals.knowledge import sample_retriever
from app.packs.leads.evals.measures import baselines, evidence, measure
from app.packs.leads.evals.pipeline import Judged, Pipeline
from app.packs.leads.facts import Thresholds
from app.packs.leads.scoring.bank import FILE_NAME
from app.packs.leads.scoring.evaluation import evaluate_contacts, render

# A Monday, so that the weekdays which the messages name lie in the days that the calendar offers.
EVALUATED_AT = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The judged leads of the shipped sample and of the held-out set."""

    sample: tuple[Judged, ...]
    holdout: tuple[Judged, ...]


async def evaluate_sample(thresholds: Thresholds | None = None, now: datetime = EVALUATED_AT) -> Evaluation:
    """Runs the whole pipeline, but for the writes, on both sets."""
    async with sample_retriever(lambda: now) as retriever:
        pipeline = Pipeline(retriever, now, thresholds)
        return Evaluation(await _judge(pipeline, sample_cases()), await _judge(pipeline, holdout_cases()))


async def _judge(pipeline: Pipeline, cases: Sequence[Case]) -> tuple[Judged, ...]:
    return tuple([await pipeline.judge(case) for case in cases])


def print_judged(title: str, judged: Sequence[Judged], console: Console) -> None:
    """Every table about one set."""
    agent = measure([row.case for row in judged], [row.action for row in judged])
    console.print(report.comparison(title, agent, baselines(judged)))
    found = evidence(judged)
    if found is not None:
        console.print(report.evidence_table(title, found))
    console.print(report.confusion_table(title, judged))
    console.print(report.language_table(title, judged))
    console.print(report.misses_table(title, judged))


async def evaluate(data: Path, console: Console) -> None:
    """Prints both parts; the first is left out, with a line that says so, where the bank's contacts are absent."""
    if (data / FILE_NAME).exists():
        console.print(render(await asyncio.to_thread(evaluate_contacts, data)))
    else:
        console.print(f"{data / FILE_NAME} is absent: the score is not judged. Name its folder with --data.")
    evaluation = await evaluate_sample()
    print_judged("the shipped sample (the rules were written with it in sight)", evaluation.sample, console)
    print_judged("held-out leads (written before the rules, by the same hand)", evaluation.holdout, console)
