"""`trellis eval leads`: the score trained on earlier contacts, judged on later ones, beside what needs no model.

Order of time is the order of the file. Nothing is fitted on a judged contact, but for the row that says so: there the
intercept follows the outcomes that arrived before each block.
"""

import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from rich.table import Table

from app.errors import InvalidInput
from app.packs.leads.scoring.bank import COLUMNS, FILE_NAME, LEFT_OUT, OUTCOME, bank_rules
from app.packs.leads.scoring.calibration import Floats, recalibrated_as_outcomes_arrive
from app.packs.leads.scoring.features import Attributes
from app.packs.leads.scoring.metrics import (
    decision_accuracy,
    escalation_precision,
    expected_calibration_error,
    roc_auc,
    top_decile_lift,
)
from app.packs.leads.scoring.thresholds import Economics, fit_thresholds, value_per_lead
from app.packs.leads.scoring.train import ForwardMetrics, Truth, read_outcomes, train


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One way to choose whom to contact, on the judged contacts.

    Attributes:
        roc_auc: 0.5 is chance.
        top_decile_lift: 1 is chance.
        calibration_error: None where the way states no probability.
        decision_accuracy: share of right "contact / do not contact" decisions.
        escalation_precision: conversions among those handed to a person.
        contacted: share of the judged contacts.
        value: of 1,000 contacts, in costs of one contact.
    """

    name: str
    roc_auc: float
    top_decile_lift: float
    calibration_error: float | None
    decision_accuracy: float
    escalation_precision: float
    contacted: float
    value: float


@dataclass(frozen=True, slots=True)
class EvaluationTable:
    """The rows and what they rest on; rates and shares are 0 to 1.

    `forward` and `forward_floor` are the learned score and the rules inside the training part, on its forward folds.
    """

    rows: tuple[EvaluationRow, ...]
    train_rows: int
    judged_rows: int
    train_rate: float
    judged_rate: float
    threshold: float
    economics: Economics
    capacity_share: float
    train_seconds: float
    score_microseconds: float
    forward: ForwardMetrics | None
    forward_floor: ForwardMetrics | None


@dataclass(frozen=True, slots=True)
class _Judge:
    """Measures one way: `ranking` orders the contacts, `chosen` are contacted, `stated` are its probabilities."""

    truth: Truth
    capacity_share: float
    economics: Economics

    def row(self, name: str, ranking: Floats, chosen: Truth, stated: Floats | None) -> EvaluationRow:
        decided = chosen.astype(np.float64)
        return EvaluationRow(
            name=name,
            roc_auc=roc_auc(ranking, self.truth),
            top_decile_lift=top_decile_lift(ranking, self.truth),
            calibration_error=None if stated is None else expected_calibration_error(stated, self.truth),
            decision_accuracy=decision_accuracy(decided, self.truth, 0.5),
            escalation_precision=escalation_precision(ranking, self.truth, self.capacity_share),
            contacted=float(chosen.mean()),
            value=1000 * value_per_lead(decided, self.truth, 0.5, self.economics),
        )

    def score(self, name: str, stated: Floats, threshold: float) -> EvaluationRow:
        return self.row(name, stated, stated >= threshold, stated)


def evaluate_contacts(
    path: Path,
    train_rows: int = 30_000,
    *,
    capacity_share: float = 0.05,
    economics: Economics | None = None,
    seed: int = 0,
) -> EvaluationTable:
    """Train on the first rows of the bank's contacts and judge on all later ones.

    The threshold for "contact" maximises the value of the contacts made (`Economics`) on the forward folds of the
    training rows; the rules, fitted on nothing, contact from the break-even rate on.

    Args:
        path: the CSV, or the folder that holds `bank_contacts.csv`.
        train_rows: rows trained on; the rest is judged.
        capacity_share: share of the contacts that people have time for.
        seed: of the contacts at random.

    Raises:
        InvalidInput: the file is absent, unreadable, lacks a column, or has too few rows.
    """
    money = economics or Economics()
    history, later = _split(read_contacts(path), train_rows)
    past, truth = read_outcomes(history, OUTCOME), read_outcomes(later, OUTCOME)
    started = time.perf_counter()
    report = train(history, OUTCOME, exclude=LEFT_OUT, floor=bank_rules())
    trained = time.perf_counter()
    frozen = np.array([report.model.score(row).probability for row in later])
    scored = time.perf_counter()
    threshold = fit_thresholds(report.forward_scores, report.forward_outcomes, capacity_share, money).pursue
    evidence = np.array([report.model.evidence(row) for row in (*history, *later)])
    moving = recalibrated_as_outcomes_arrive(evidence, np.concatenate([past, truth]), past.size)
    judge = _Judge(truth, capacity_share, money)
    learned = (
        judge.score("learned score, frozen", frozen, threshold),
        judge.score("learned score, recalibrated as outcomes arrive", moving, threshold),
    )
    return EvaluationTable(
        rows=(*_naive(judge, later, float(past.mean()), learned[0].contacted, seed), *learned),
        train_rows=past.size,
        judged_rows=truth.size,
        train_rate=float(past.mean()),
        judged_rate=float(truth.mean()),
        threshold=threshold,
        economics=money,
        capacity_share=capacity_share,
        train_seconds=trained - started,
        score_microseconds=(scored - trained) / truth.size * 1e6,
        forward=report.metrics,
        forward_floor=report.floor,
    )


def _naive(
    judge: _Judge, later: Sequence[Attributes], past_rate: float, contacted: float, seed: int
) -> tuple[EvaluationRow, ...]:
    """The ways that learn nothing; at random contacts as many as the frozen score does."""
    everyone = np.full(len(later), past_rate)
    draws = np.random.default_rng(seed).random(len(later))
    rules = bank_rules()
    ruled = np.array([rules.score(row).probability for row in later])
    return (
        judge.row("contact everyone", everyone, np.ones(len(later), dtype=np.bool_), everyone),
        judge.row(f"contact at random (seed {seed})", draws, draws >= 1 - contacted, None),
        judge.score("rules only", ruled, judge.economics.break_even),
    )


def _split(contacts: Iterator[Attributes], train_rows: int) -> tuple[list[Attributes], list[Attributes]]:
    history = list(islice(contacts, train_rows))
    later = list(contacts)
    if len(history) < train_rows or not later:
        raise InvalidInput(
            f"The evaluation trains on {train_rows:,} contacts and judges later ones: the file has only "
            f"{len(history) + len(later):,}."
        )
    return history, later


def read_contacts(path: Path) -> Iterator[Attributes]:
    """The contacts in the file's order, without the columns that are known only after the call.

    Raises:
        InvalidInput: the file is absent or unreadable, lacks a column, or has a line with too few cells.
    """
    file = path / FILE_NAME if path.is_dir() else path
    wanted = (*COLUMNS, OUTCOME)
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            absent = [name for name in wanted if name not in (reader.fieldnames or ())]
            if absent:
                raise InvalidInput(f"{file} lacks the columns {', '.join(absent)}: give the bank's contacts.")
            for row in reader:
                if None in row.values():
                    raise InvalidInput(f"{file}, line {reader.line_num}: the line has too few cells.")
                yield {name: row[name] for name in wanted}
    except OSError as error:
        raise InvalidInput(
            f"{file} cannot be read ({error.strerror}): give the file or its folder with --data or TRELLIS_DATA."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{file} is no readable UTF-8 CSV: {error}.") from error


def render(table: EvaluationTable) -> Table:
    """The table as the command prints it."""
    money = table.economics
    view = Table(
        title=f"Lead score: trained on {table.train_rows:,} contacts, judged on the {table.judged_rows:,} after them",
        caption=(
            f"Conversion {table.train_rate:.1%} while training, {table.judged_rate:.1%} while judged. A contact costs "
            f"{money.contact_cost:g}, a conversion brings {money.conversion_benefit:g}; contact from a probability of "
            f"{table.threshold:.3f} on (most value on the training part's forward folds; rules: break-even "
            f"{money.break_even:.3f}). Escalated: the best {table.capacity_share:.0%}. Trained in "
            f"{table.train_seconds:.1f} s, {table.score_microseconds:.0f} µs a score.{_forward(table)}"
        ),
        caption_justify="left",
    )
    view.add_column("way to choose", ratio=1)
    for heading in _HEADINGS:
        view.add_column(heading, justify="right")
    for row in table.rows:
        view.add_row(row.name, *_cells(row))
    return view


def _forward(table: EvaluationTable) -> str:
    if table.forward is None or table.forward_floor is None:
        return ""
    return (
        f" Inside the training part, on forward folds: ROC-AUC {table.forward.roc_auc:.3f} learned, "
        f"{table.forward_floor.roc_auc:.3f} rules."
    )


_HEADINGS = (
    "ROC-AUC",
    "top-decile lift",
    "calibration error",
    "decision accuracy",
    "escalation precision",
    "contacted",
    "value of 1,000",
)


def _cells(row: EvaluationRow) -> tuple[str, ...]:
    return (
        f"{row.roc_auc:.3f}",
        f"{row.top_decile_lift:.2f}",
        "–" if row.calibration_error is None else f"{row.calibration_error:.3f}",
        f"{row.decision_accuracy:.1%}",
        f"{row.escalation_precision:.1%}",
        f"{row.contacted:.1%}",
        f"{row.value:+,.0f}",
    )
