"""A file of the shape of UCI's Bank Marketing, made up."""

import csv
import random
from pathlib import Path

COLUMNS = (
    *("age", "job", "marital", "education", "default", "balance", "housing", "loan", "contact", "day", "month"),
    *("duration", "campaign", "pdays", "previous", "poutcome", "deposit"),
)
MONTHS = ("may", "jun", "jul", "aug", "oct", "nov")


def bank_file(path: Path, rows: int, seed: int = 0) -> Path:
    """Rows oldest first. Who is old, or took up an offer before, deposits more often."""
    draw = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(rows):
            writer.writerow(_row(draw, number / rows))
    return path


def _row(draw: random.Random, when: float) -> list[object]:
    age, former = draw.randint(19, 64), draw.choice(("unknown", "unknown", "failure", "success"))
    yes = draw.random() < 0.05 + 0.3 * (former == "success") + 0.2 * (age >= 60)
    return [
        age,
        draw.choice(("management", "technician", "retired", "student")),
        draw.choice(("married", "single")),
        draw.choice(("secondary", "tertiary")),
        "no",
        draw.randint(-200, 20_000),
        draw.choice(("yes", "no")),
        draw.choice(("yes", "no")),
        draw.choice(("cellular", "unknown")),
        1 + int(when * len(MONTHS) % 1 * 28),
        MONTHS[int(when * len(MONTHS))],
        draw.randint(1, 900),
        draw.randint(1, 4),
        -1 if former == "unknown" else draw.randint(5, 60),
        0 if former == "unknown" else 1,
        former,
        "yes" if yes else "no",
    ]
