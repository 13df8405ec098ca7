import csv
import os
import random
from pathlib import Path

import pytest
from rich.console import Console

from app.errors import InvalidInput
from app.packs.leads.scoring.bank import COLUMNS, FILE_NAME, OUTCOME
from app.packs.leads.scoring.evaluation import evaluate_contacts, read_contacts, render

HEADER = [*COLUMNS, "duration", OUTCOME]


def contact(draw: random.Random, rate: float) -> dict[str, object]:
    likely = draw.random() < 0.3
    balance = draw.randrange(1500, 9000) if likely else draw.randrange(-200, 1500)
    converts = draw.random() < (3 * rate if likely else rate / 2)
    return {
        **dict.fromkeys(COLUMNS, "unknown"),
        "age": draw.randrange(20, 70),
        "balance": balance,
        "campaign": draw.randrange(1, 8),
        "month": draw.choice(["may", "jun"]),
        "duration": 900 if converts else 10,
        OUTCOME: "yes" if converts else "no",
    }


def write_contacts(folder: Path, later: int) -> Path:
    """3,000 contacts at a rate of about 10 %, then the later ones at about 25 %."""
    draw = random.Random(5)
    with (folder / FILE_NAME).open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER)
        writer.writeheader()
        writer.writerows(contact(draw, 0.08 if index < 3000 else 0.2) for index in range(3000 + later))
    return folder


@pytest.fixture
def contacts(tmp_path: Path) -> Path:
    return write_contacts(tmp_path, 1000)


def rows_of(table):
    return {row.name: row for row in table.rows}


def test_the_learned_score_stands_beside_the_naive_ways(contacts):
    table = evaluate_contacts(contacts, 3000)
    rows = rows_of(table)
    assert list(rows) == [
        "contact everyone",
        "contact at random (seed 0)",
        "rules only",
        "learned score, frozen",
        "learned score, recalibrated as outcomes arrive",
    ]
    assert (table.train_rows, table.judged_rows) == (3000, 1000)
    everyone, learned = rows["contact everyone"], rows["learned score, frozen"]
    assert everyone.roc_auc == 0.5
    assert everyone.top_decile_lift == pytest.approx(1)
    assert everyone.decision_accuracy == pytest.approx(table.judged_rate)
    assert everyone.calibration_error == pytest.approx(table.judged_rate - table.train_rate)
    assert everyone.value == pytest.approx(20_000 * table.judged_rate - 1000)
    assert learned.roc_auc > 0.7
    assert learned.escalation_precision > 1.5 * everyone.escalation_precision
    at_random = rows["contact at random (seed 0)"]
    assert at_random.contacted == pytest.approx(learned.contacted, abs=0.05)
    assert at_random.calibration_error is None


def test_recalibration_repairs_calibration_when_the_base_rate_moved(tmp_path):
    rows = rows_of(evaluate_contacts(write_contacts(tmp_path, 8000) / FILE_NAME, 3000))
    frozen, moving = rows["learned score, frozen"], rows["learned score, recalibrated as outcomes arrive"]
    assert moving.calibration_error < frozen.calibration_error / 2


def test_the_frozen_row_does_not_change_with_the_judged_outcomes_but_in_what_it_earns(contacts):
    path = contacts / FILE_NAME
    before = rows_of(evaluate_contacts(path, 3000))["learned score, frozen"]
    lines = path.read_text().splitlines()
    swapped = [line[: line.rindex(",")] + (",no" if line.endswith("yes") else ",yes") for line in lines[3001:]]
    path.write_text("\n".join([*lines[:3001], *swapped]))
    after = rows_of(evaluate_contacts(path, 3000))["learned score, frozen"]
    assert after.contacted == before.contacted
    assert after.roc_auc == pytest.approx(1 - before.roc_auc)


def test_the_same_file_and_seed_give_the_same_rows_and_another_seed_other_ones(contacts):
    first = evaluate_contacts(contacts, 3000).rows
    assert evaluate_contacts(contacts, 3000).rows == first
    other = evaluate_contacts(contacts, 3000, seed=1).rows
    assert [one == two for one, two in zip(first, other, strict=True)] == [True, False, True, True, True]


def test_duration_is_never_read(contacts):
    assert "duration" not in next(read_contacts(contacts))


def test_the_table_prints_every_row_and_what_it_rests_on(contacts):
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(render(evaluate_contacts(contacts, 3000)))
    text = " ".join(console.export_text().split())
    for piece in (
        "contact everyone",
        "rules only",
        "recalibrated as outcomes arrive",
        "trained on 3,000",
        "1,000 after",
    ):
        assert piece in text
    assert "A contact costs 1, a conversion brings 20" in text
    assert "on forward folds: ROC-AUC" in text


def test_an_absent_file_says_where_to_give_it(tmp_path):
    with pytest.raises(InvalidInput, match=r"bank_contacts.csv cannot be read .*TRELLIS_DATA"):
        evaluate_contacts(tmp_path)


def test_wrong_columns_are_named(tmp_path):
    (tmp_path / FILE_NAME).write_text("age,job\n1,2\n")
    with pytest.raises(InvalidInput, match=r"lacks the columns marital, .*deposit"):
        evaluate_contacts(tmp_path)
    (tmp_path / FILE_NAME).write_text("")
    with pytest.raises(InvalidInput, match="lacks the columns age"):
        evaluate_contacts(tmp_path)


def test_too_few_rows_say_how_many_there_are(contacts):
    for wanted in (4000, 30_000):
        with pytest.raises(InvalidInput, match="the file has only 4,000"):
            evaluate_contacts(contacts, wanted)


def test_a_short_line_and_broken_bytes_are_refused(contacts):
    path = contacts / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole + b"1,2,3\n")
    with pytest.raises(InvalidInput, match="line 4002: the line has too few cells"):
        evaluate_contacts(path, 3000)
    path.write_bytes(whole + b"\xff\xfe" + whole)
    with pytest.raises(InvalidInput, match="no readable UTF-8 CSV"):
        evaluate_contacts(path, 3000)
