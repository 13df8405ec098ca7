"""Lists and data files, read in parts."""

import io
from pathlib import Path

import pytest

from app.errors import InvalidInput, UnsupportedMedia
from app.packs.treatments import data_files
from app.packs.treatments.data_files import parts_of
from app.packs.treatments.export import defused
from app.packs.treatments.reading import read_customers
from app.packs.treatments.run_file import external_ids


def listed(kind: str, text: str) -> list[str]:
    return list(external_ids(kind, io.BytesIO(text.encode())))


def test_the_customers_of_a_list_are_read_from_csv_and_from_json_lines() -> None:
    assert listed("text/csv; charset=utf-8", '\ufeffname,external_id\n"A\nB",c1\nC, c2 \n') == ["c1", "c2"]
    assert listed("application/x-ndjson", '{"external_id": "c1"}\n\n{"external_id": "c2", "x": 1}') == ["c1", "c2"]


def test_a_line_without_a_customer_is_named() -> None:
    with pytest.raises(InvalidInput, match="Line 3"):
        listed("text/csv", "external_id\nc1\n  \n")
    with pytest.raises(InvalidInput, match="Line 2"):
        listed("application/jsonl", '{"external_id": "c1"}\n[]\n')
    with pytest.raises(UnsupportedMedia):
        listed("text/plain", "c1")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\tx", "\rx", "\n=1", "\uff1d1"])
def test_a_text_that_would_be_a_formula_is_defused(text: str) -> None:
    assert defused(text) == f"'{text}"


@pytest.mark.parametrize("value", ["plain", "a=b", "", -3.5, None])
def test_other_cells_stay_as_they_are(value: object) -> None:
    assert defused(value) == value


def test_a_large_csv_comes_in_parts_that_keep_a_customer_and_the_line_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_files, "PART_LINES", 3)
    lines = [f"c{n // 2},10,2026-01-0{n % 2 + 1}T00:00:00Z,visit" for n in range(10)]
    file = tmp_path / "customers.csv"
    file.write_text("\n".join(["external_id,worth_usd,event_at,event_kind", *lines, ""]))
    found = [read_customers(*part) for part in parts_of(file)]
    assert [[customer.external_id for customer in part] for part in found] == [["c0", "c1"], ["c2", "c3"], ["c4"]]
    assert all(len(customer.events) == 2 for part in found for customer in part)
    file.write_text("\n".join(["external_id,worth_usd", *(f"c{n},1" for n in range(5)), "c5,much"]))
    with pytest.raises(InvalidInput, match="Line 7: 'worth_usd'"):
        [read_customers(*part) for part in parts_of(file)]


def test_json_lines_come_in_parts_that_keep_the_line_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "PART_LINES", 2)
    file = tmp_path / "customers.jsonl"
    file.write_text("".join(f'{{"external_id": "c{n}", "worth_usd": 1}}\n' for n in range(5)) + "{}\n")
    parts = list(parts_of(file))
    assert len(parts) == 3
    assert [len(read_customers(*part)) for part in parts[:2]] == [2, 2]
    with pytest.raises(InvalidInput, match="Line 6"):
        read_customers(*parts[2])
