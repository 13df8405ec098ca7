"""Customers and outcomes from a body: three forms, one clear sentence for what is wrong."""

import pytest

from app.errors import InvalidInput, Malformed, UnsupportedMedia
from app.packs.treatments.reading import read_customers, read_outcomes

LINES = "application/x-ndjson"
CSV = "text/csv; charset=utf-8"
HEADER = "external_id,email,segment,worth_usd,plan,age,vip,event_key,event_at,event_kind,event_amount_usd\n"
GOOD = '{"external_id": "c-1", "worth_usd": 10}'


def test_lines_of_one_customer_are_put_together() -> None:
    text = (
        HEADER + "c-1,Ada@Example.org,gold,120.5,plus,44,true,e1,2026-01-02T03:04:05Z,visit,\n"
        "c-2,,,1,,,,,,,\n"
        "c-1,,,,,,,e2,2026-01-03T00:00:00+02:00,buy,9.99\n"
    )
    first, second = read_customers(CSV, text.encode())
    assert first.columns() == {
        "email": "ada@example.org",
        "segment": "gold",
        "fair_group": "",
        "worth_micros": 120_500_000,
        "attributes": {"plan": "plus", "age": 44, "vip": True},
    }
    assert [(event.key, event.kind, event.amount_usd) for event in first.events] == [
        ("e1", "visit", None),
        ("e2", "buy", 9.99),
    ]
    assert first.events[1].at.isoformat() == "2026-01-02T22:00:00+00:00"
    assert (second.external_id, second.events, second.attributes) == ("c-2", [], {})


def test_the_three_forms_say_the_same() -> None:
    event = '{"key": "e1", "at": "2026-01-02T00:00:00Z", "kind": "visit"}'
    one = f'{{"external_id": "c-1", "worth_usd": 10, "attributes": {{"age": 4}}, "events": [{event}]}}'
    table = "external_id,worth_usd,age,event_key,event_at,event_kind\nc-1,10,4,e1,2026-01-02T00:00:00Z,visit\n"
    as_lines = read_customers(LINES, f"\n{one}\n\n".encode())
    assert as_lines == read_customers("application/json", f"[{one}]".encode()) == read_customers(CSV, table.encode())


def test_an_event_without_a_key_has_one_of_its_own() -> None:
    text = "external_id,worth_usd,event_at,event_kind\n" + "c-1,1,2026-01-02T00:00:00Z,visit\n" * 2
    one, same = read_customers(CSV, text.encode())[0].events
    other = one.model_copy(update={"text": "another"})
    assert one.own_key == same.own_key != other.own_key


@pytest.mark.parametrize(
    ("kind", "body", "sentence"),
    [
        ("application/json", "{}", "not a JSON array"),
        ("application/json", "[1]", "Item 1 is not a JSON object"),
        ("application/json", "[]", "empty"),
        (LINES, "", "empty"),
        (LINES, f"{GOOD}\n[1]", "Line 2 is not a JSON object"),
        (LINES, f'{GOOD}\n\n{{"external_id": "c-2"}}', "Line 3: 'worth_usd'"),
        (LINES, '{"external_id": "ada@example.org", "worth_usd": 1}', "Line 1: 'external_id'"),
        (LINES, '{"external_id": "c", "worth_usd": -1}', "Line 1: 'worth_usd'"),
        (LINES, '{"external_id": "c", "worth_usd": 1e99}', "Line 1: 'worth_usd'"),
        (LINES, '{"external_id": "c", "worth_usd": 1, "attributes": {"a": {"b": 1}}}', "attributes are flat"),
        (LINES, '{"external_id": "c", "worth_usd": 1, "attributes": {"a": null}}', "'a' is no text"),
        (LINES, '{"external_id": "c", "worth_usd": 1, "attributes": {"a": 1e16}}', "'a' is beyond"),
        (LINES, '{"external_id": "c", "worth_usd": 1, "attributes": [1]}', "Line 1: 'attributes'"),
        (LINES, '{"external_id": "c", "worth_usd": 1, "tenant_id": "rival"}', "Line 1: 'tenant_id'"),
        (LINES, '{"external_id": "c", "worth_usd": 1, "events": [{"at": "x", "kind": "y"}]}', "'events.0.at'"),
        (
            LINES,
            '{"external_id": "c", "worth_usd": 1, "events": [{"days_ago": 3, "kind": "y"}]}',
            "'events.0.at': Field required ('at' is when it happened, with its zone: 2026-03-01T12:00:00Z).",
        ),
        (LINES, '{"external_id": "c\\u0000", "worth_usd": 1}', "Line 1: 'external_id' holds a NUL"),
        (CSV, "external_id,worth_usd\nc-1,1\nc-2\n", "Line 3 has more or fewer"),
        (CSV, "external_id,external_id\nc-1,1\n", "each differently"),
        (CSV, 'external_id,worth_usd\nc-1,"1\n', "Line 2 is not CSV"),
        (CSV, "external_id,worth_usd\nc-1,1\nc-1,2\n", "Line 3: 'worth_usd' of the customer c-1"),
        (CSV, "external_id,worth_usd\nc-1,much\n", "Line 2: 'worth_usd'"),
        (CSV, "worth_usd\n1\n", "no column 'external_id': it has worth_usd"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(kind: str, body: str, sentence: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_customers(kind, body.encode())
    assert sentence in refused.value.detail
    assert "\n" not in refused.value.detail


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(Malformed, match="Line 2"):
        read_customers(LINES, f"{GOOD}\n{{".encode())
    with pytest.raises(Malformed, match="UTF-8"):
        read_customers(CSV, b"external_id\n\xff\n")
    with pytest.raises(UnsupportedMedia):
        read_customers("text/plain", b"c-1")


def test_outcomes_come_in_the_same_forms() -> None:
    one = '{"key": "k", "customer": "c-1", "treatment": "email", "success": true, "at": "2026-01-02T00:00:00Z"}'
    table = "key,customer,treatment,success,value_usd,at\nk,c-1,email,true,,2026-01-02T00:00:00Z\n"
    assert read_outcomes(LINES, one.encode()) == read_outcomes(CSV, table.encode())
    with pytest.raises(InvalidInput, match="Line 1: 'value_usd'"):
        read_outcomes(LINES, one.replace("true", 'false, "value_usd": 3').encode())
