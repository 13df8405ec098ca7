"""Rows of the bank's contacts as customers: dates that roll on, nothing that is known only after the call."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.packs.treatments.bank import bank_catalogue, bank_customers, contacted_until, worth_of

HEADER = (
    "age,job,marital,education,default,balance,housing,loan,contact,day,month,duration,campaign,pdays,previous,"
    "poutcome,deposit\n"
)
ROWS = (
    "58,management,married,tertiary,no,2143,yes,no,unknown,5,dec,261,1,-1,0,unknown,no\n"
    "24,student,single,secondary,yes,-29,no,no,cellular,31,dec,987654,4,90,2,success,yes\n"
    "61,retired,single,secondary,no,500000,no,no,telephone,2,jan,76,40,10,275,failure,no\n"
)


def write(folder: Path, rows: str = ROWS) -> Path:
    path = folder / "bank.csv"
    path.write_text(HEADER + rows)
    return path


def test_the_year_rolls_on_when_the_month_goes_back(tmp_path: Path) -> None:
    path = write(tmp_path)
    moments = [row.outcome.at for row in bank_customers(path)]
    assert [moment.isoformat() for moment in moments] == [
        "2008-12-05T12:00:00+00:00",
        "2008-12-31T12:00:00+00:00",
        "2009-01-02T12:00:00+00:00",
    ]
    assert contacted_until(path) == moments[-1]


def test_a_row_is_a_customer_with_what_was_known_before_the_call(tmp_path: Path) -> None:
    _, row, third = bank_customers(write(tmp_path))
    customer = row.customer
    assert (customer.segment, customer.fair_group, customer.worth_usd) == ("free", "under 30", worth_of(-29))
    assert customer.attributes["former_campaign"] == "took up"
    assert customer.attributes["in_default"] is True
    days = [round((row.outcome.at - event.at) / timedelta(days=1), 2) for event in customer.events]
    assert days == [6, 4, 2, 90, 97, 89.96]
    assert [event.kind for event in customer.events] == ["contact"] * 5 + ["response"]
    assert (row.outcome.customer, row.outcome.treatment, row.outcome.success) == ("bank-00002", "call_back", True)
    assert all(event.at < one.outcome.at for one in (row, third) for event in one.customer.events)
    assert len(third.customer.events) == 16


def test_how_long_the_call_took_changes_nothing(tmp_path: Path) -> None:
    before = list(bank_customers(write(tmp_path)))
    after = list(bank_customers(write(tmp_path, ROWS.replace("987654", "1").replace(",76,", ",77777,"))))
    assert before == after
    assert "987654" not in str(before)


def test_the_last_are_judged_and_may_be_moved_to_the_moment_of_the_run(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    rows = list(bank_customers(write(tmp_path), judged=1, decided_at=moment))
    assert [row.judged for row in rows] == [False, False, True]
    assert rows[2].outcome.at == moment > rows[1].outcome.at
    assert moment - max(event.at for event in rows[2].customer.events) == timedelta(days=2)
    few = list(bank_customers(write(tmp_path), limit=2, judged=1))
    assert [row.judged for row in few] == [False, True]


def test_the_catalogue_names_attributes_that_customers_have(tmp_path: Path) -> None:
    described = set(bank_catalogue().described_by)
    for row in bank_customers(write(tmp_path)):
        assert described <= row.customer.attributes.keys()
