"""Batches: each bad line is named, none stops the others."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.errors import InvalidInput
from app.packs.leads.commands import columns, parse_arm, read_file
from app.packs.leads.intake import MAX_LINES, csv_lines, json_lines, validated
from app.packs.leads.schemas import MAX_ATTRIBUTES, LeadIn, MessageIn

GOOD = {"name": "Ada", "email": "ada@example.org", "message": "Hello, what does it cost?"}


def problems_of(text: str) -> list[tuple[int, str]]:
    return [(one.line, one.problem) for one in validated(json_lines(text)).problems]


def test_good_lines_are_kept_beside_bad_ones() -> None:
    lines = [
        json.dumps(GOOD),
        "not json",
        "[1]",
        json.dumps(GOOD | {"email": "nobody"}),
        "",
        json.dumps(GOOD | {"x": 1}),
    ]
    batch = validated(json_lines("\n".join(lines)))
    assert len(batch.leads) == 1
    assert [one.line for one in batch.problems] == [2, 3, 4, 6]
    assert "email" in batch.problems[2].problem
    assert "x" in batch.problems[3].problem


def test_a_line_separator_inside_a_string_ends_no_line() -> None:
    assert problems_of(json.dumps(GOOD | {"message": "one\u2028two"}, ensure_ascii=False)) == []


def test_a_nul_character_is_refused() -> None:
    assert "NUL" in problems_of(json.dumps(GOOD | {"message": "a\0b"}))[0][1]
    assert "NUL" in validated(csv_lines("name,email,message\nA,a@example.org,x\0y\n")).problems[0].problem


def test_an_empty_batch_and_a_too_large_one_are_refused() -> None:
    with pytest.raises(InvalidInput, match="empty"):
        validated(json_lines("\n\n"))
    with pytest.raises(InvalidInput, match="1,000"):
        validated(json_lines("\n".join(["{}"] * (MAX_LINES + 1))))


def test_other_columns_become_attributes() -> None:
    batch = validated(csv_lines("name,email,message,budget_usd\nAda,ada@example.org,Hi there,500\n"))
    assert batch.leads[0].attributes == {"budget_usd": "500"}


def test_columns_are_mapped() -> None:
    text = "Kunde,E-Mail,Notiz\nAda,ada@example.org,Guten Tag\n"
    batch = validated(csv_lines(text, {"name": "Kunde", "email": "E-Mail", "message": "Notiz"}))
    assert batch.leads[0].name == "Ada"


@pytest.mark.parametrize(
    ("header", "mapping", "said"),
    [
        ("name,email", {}, "message"),
        ("", {}, "name, email, message"),
        ("a;b;c", {}, "a;b;c"),
        ("name,email,message", {"nickname": "name"}, "no field 'nickname'"),
        ("name,email,message", {"company": "Firma"}, "no column 'Firma'"),
    ],
)
def test_a_header_that_gives_no_lead_is_one_sentence(header: str, mapping: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        validated(csv_lines(f"{header}\n1,2,3\n", mapping))


def test_ragged_rows_are_named() -> None:
    text = "name,email,message\nAda,ada@example.org\nBo,bo@example.org,Hi,more\nCy,cy@example.org,Hello\n"
    batch = validated(csv_lines(text))
    assert [one.line for one in batch.problems] == [2, 3]
    assert [one.name for one in batch.leads] == ["Cy"]


def test_more_attributes_than_a_lead_has_are_one_error_and_not_as_many() -> None:
    with pytest.raises(ValidationError) as refused:
        LeadIn.model_validate(GOOD | {"attributes": {f"k{n}": [] for n in range(MAX_ATTRIBUTES + 1)}})
    assert [error["type"] for error in refused.value.errors()] == ["value_error"]


def test_a_name_stays_on_one_line() -> None:
    told = {"name": "Ada\r\nBcc: eve@example.org", "company": "Loom\u2028& Co", "phone": "1\n2", "country": " DE\tx "}
    lead = LeadIn.model_validate(GOOD | told)
    assert (lead.name, lead.company) == ("Ada Bcc: eve@example.org", "Loom & Co")
    assert (lead.phone, lead.country) == ("1 2", "DE x")
    assert MessageIn(body="a\nb", subject="Re:\n offer").model_dump() == {"body": "a\nb", "subject": "Re: offer"}


def test_a_column_that_comes_twice_is_named() -> None:
    with pytest.raises(InvalidInput, match="'budget' twice"):
        validated(csv_lines("name,email,message,budget,zeta,budget\n"))


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    for lines in (json_lines, csv_lines):
        try:
            batch = validated(lines(text))
        except InvalidInput:
            continue
        assert batch.problems or batch.leads


def test_a_mapping_that_is_no_pair_is_refused() -> None:
    assert columns(["name=Kunde", "email=E=Mail"]) == {"name": "Kunde", "email": "E=Mail"}
    for bad in ("name", "=x", "name="):
        with pytest.raises(InvalidInput, match="field=column"):
            columns([bad])


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path) -> None:
    latin = tmp_path / "latin.csv"
    latin.write_bytes("name,email,message\nJörg,j@example.org,Grüße\n".encode("latin-1"))
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    for path in (tmp_path / "none.csv", tmp_path, latin):
        with pytest.raises(InvalidInput, match="cannot be read"):
            list(read_file(path, {}, "utf-8-sig"))
    with pytest.raises(InvalidInput, match="no leads"):
        list(read_file(empty, {}, "utf-8-sig"))
    assert next(read_file(latin, {}, "latin-1")).leads[0].name == "Jörg"


def test_arms_are_parsed() -> None:
    arm = parse_arm("new:2:prompt=3:policy=4")
    assert (arm.arm, arm.weight, arm.prompt_version, arm.policy_version) == ("new", 2.0, 3, 4)
    for bad in ("new", "new:x", "new:1:prompt", "new:1:colour=2", "New:1", ":1"):
        with pytest.raises(InvalidInput, match="name:weight"):
            parse_arm(bad)
