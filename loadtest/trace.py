"""Replays a trace of real conversations with a model, scaled to a replica's share.

The trace: Azure LLM inference trace 2023, conversation (Patel et al., "Splitwise: Efficient generative LLM inference
using phase splitting", ISCA 2024): when requests came, and their tokens in and out. Its bursts are kept and its time is
scaled; its tokens, which hold a whole history, are scaled to questions and answers as people and the phase's model
write them.
"""

import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Final

from infra.phases import Phase
from loadtest.plan import REPLAY, REPLAY_S, WARM_UP_S, Scenario, Stage, mix, promised, questions_s
from loadtest.stub.pace import pace_of

FILE: Final = "azure_llm_conversation_trace.csv"
ROOT: Final = Path(__file__).parent.parent
BUCKET_S: Final = 5.0
"""Of the replay: so many requests come in each as in the trace; within one they are evenly spaced, and shifted."""
QUESTION_WORDS: Final = 40
"""In the mean, as somebody types who explains what they want."""
LONGEST_WORDS: Final = 600
_COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
# Seven digits of a second are one more than datetime reads.
_STAMP: Final = 26


@dataclass(frozen=True, slots=True)
class Row:
    """One request: seconds since the first, tokens in and out."""

    at_s: float
    asked: int
    answered: int


def trace_path() -> Path:
    """In the folder that TRELLIS_DATA names, else in the one beside the repo."""
    return Path(os.environ.get("TRELLIS_DATA") or ROOT.parent / "shared" / "data") / FILE


def read_trace(path: Path) -> Sequence[Row]:
    """In the order of time. Raises ValueError where it is not there, or no such trace."""
    try:
        with path.open(newline="") as file:
            read = csv.DictReader(file)
            if tuple(read.fieldnames or ()) != _COLUMNS:
                raise ValueError(f"{path} is no trace: its columns are not {', '.join(_COLUMNS)}.")
            rows = sorted(_row(path, each) for each in read)
    except OSError as error:
        raise ValueError(f"There is no trace at {path}: put it there, or set TRELLIS_DATA to its folder.") from error
    if len(rows) < 2:
        raise ValueError(f"{path} holds no two requests.")
    return [Row((at - rows[0][0]).total_seconds(), asked, answered) for at, asked, answered in rows]


def replay(phase: Phase, rows: Sequence[Row], seconds: float = REPLAY_S) -> Scenario:
    """As many of the first rows as the share asks in `seconds`, in that time. Raises ValueError where it has fewer."""
    rates = mix(phase)
    wanted = round(questions_s(rates) * seconds)
    if len(rows) < max(wanted, 2):
        raise ValueError(f"The trace has {len(rows):,} requests; phase {phase.name} needs {wanted:,} for the replay.")
    taken = rows[:wanted]
    scale = seconds / taken[-1].at_s
    counts = Counter(min(int(row.at_s * scale / BUCKET_S), int(seconds / BUCKET_S) - 1) for row in taken)
    even = questions_s(rates) * BUCKET_S
    stages = [Stage(counts[number] / even, BUCKET_S) for number in range(int(seconds / BUCKET_S))]
    paced = (Stage(1.0, WARM_UP_S), *stages)
    return Scenario(REPLAY, rates, paced, promised(phase, 1.0), lengths=_lengths(phase, taken))


def _lengths(phase: Phase, rows: Sequence[Row]) -> tuple[tuple[int, int], ...]:
    """Words of each question and answer; their means are ours, their distributions the trace's."""
    asked = QUESTION_WORDS / fmean(row.asked for row in rows)
    answered = pace_of(phase).answer_tokens / fmean(row.answered for row in rows)
    return tuple((_words(row.asked * asked), _words(row.answered * answered)) for row in rows)


def _words(count: float) -> int:
    return max(1, min(LONGEST_WORDS, round(count)))


def _row(path: Path, row: Mapping[str, str]) -> tuple[datetime, int, int]:
    stamp, asked, answered = (row[column] or "" for column in _COLUMNS)
    try:
        return datetime.fromisoformat(stamp[:_STAMP]), int(asked), int(answered)
    except ValueError as error:
        raise ValueError(f"{path} has a row that is none of a trace: {stamp}, {asked}, {answered}.") from error
