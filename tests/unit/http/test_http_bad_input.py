"""Bodies and addresses that must end in one clear 4xx problem, never in a 500."""

import httpx2
import pytest

from app.http.problems import MEDIA_TYPE
from app.http.strict import MAX_MEMBERS
from tests.support.http_app import RAW_LIMIT, effects

JSON = {"Content-Type": "application/json"}


def problem(answer: httpx2.Response, status: int, code: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    document = answer.json()
    assert document["type"] == f"urn:trellis:problem:{code}"
    assert document["status"] == status
    assert document["instance"] == answer.headers["x-request-id"]
    assert document["title"]
    assert document["detail"].endswith(".")
    return document


def fields(document: dict) -> dict[str, str]:
    return {error["field"]: error["message"] for error in document["errors"]}


async def test_an_empty_body_is_said_to_be_missing(api):
    for headers in ({}, JSON):
        document = problem(await api.post("/v1/items", headers=headers), 422, "invalid-input")
        assert document["errors"] == [
            {"in": "body", "field": "body", "code": "missing", "message": "is missing: send it"}
        ]


async def test_wrong_types_name_the_field_and_what_is_allowed(api):
    document = problem(await api.post("/v1/items", json={"name": 5, "count": "many"}), 422, "invalid-input")
    assert fields(document) == {
        "name": "Input should be a valid string",
        "count": "Input should be a valid integer, unable to parse string as an integer",
    }
    assert "'name' (body)" in document["detail"]


async def test_an_unknown_field_is_named(api):
    document = problem(await api.post("/v1/items", json={"name": "a", "colour": "red"}), 422, "invalid-input")
    assert fields(document) == {"colour": "is not a known field: leave it out"}


async def test_a_nested_field_is_named_with_its_place(api):
    document = problem(await api.post("/v1/items", json={"name": "a", "tags": ["x", 5]}), 422, "invalid-input")
    assert list(fields(document)) == ["tags.1"]


async def test_a_thousand_wrong_fields_are_told_as_fifty(api):
    body = {"name": "a"} | {f"unknown{n}": 1 for n in range(1000)}
    document = problem(await api.post("/v1/items", json=body), 422, "invalid-input")
    assert len(document["errors"]) == 50
    assert "and 995 more" in document["detail"]


async def test_more_fields_than_any_body_has_are_one_error_and_not_as_many(api):
    many = {f"unknown{n}": 1 for n in range(MAX_MEMBERS + 1)}
    for body in ({"name": "a"} | many, {"name": "a", "tags": [many]}):
        document = problem(await api.post("/v1/items", json=body), 422, "invalid-input")
        assert "errors" not in document
        assert f"at most {MAX_MEMBERS:,}" in document["detail"]


async def test_what_was_sent_is_not_repeated_in_the_answer(api):
    answer = await api.post("/v1/items", json={"name": ["4111 1111 1111 1111"], "count": "ada@example.org"})
    problem(answer, 422, "invalid-input")
    assert "4111" not in answer.text
    assert "ada@" not in answer.text


async def test_a_wrong_query_parameter_is_named(api):
    document = problem(await api.get("/v1/items/page?limit=1000"), 422, "invalid-input")
    assert document["errors"][0]["in"] == "query"
    assert fields(document) == {"limit": "Input should be less than or equal to 200"}


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "caf\xe9"}',
        b'{"name": "\xed\xa0\x80"}',
        b'{"name": "a"',
        b'{"name": "a"}}',
        b'{"name": NaN}',
        b'{"name": "a", "count": 1e999}',
        b'{"name": "\\ud800"}',
        b"{'name': 'a'}",
        "{}".encode("utf-16"),
        b"\x00",
    ],
)
async def test_what_is_not_json_in_utf8_cannot_be_read(api, body):
    document = problem(await api.post("/v1/items", content=body, headers=JSON), 400, "malformed")
    assert "not valid JSON" in document["detail"]


@pytest.mark.parametrize("depth", [65, 500, 1500, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
async def test_deep_nesting_cannot_be_read(api, depth, opening, closing):
    body = f'{{"name":"a","data":{{"x":{opening * depth}1{closing * depth}}}}}'
    problem(await api.post("/v1/items", content=body, headers=JSON), 400, "malformed")


async def test_deep_nesting_that_hides_a_huge_integer_cannot_be_read_either(api):
    body = '{"name":"a","data":{"x":' + "[" * 1000 + "9" * 30 + "]" * 1000 + "}}"
    answer = await api.post("/v1/items", content=body, headers=JSON)
    assert answer.status_code in (400, 422)


async def test_nesting_within_bounds_and_many_flat_objects_are_taken(api):
    body = {"name": "a", "data": {"deep": eval("[" * 60 + "]" * 60), "flat": [{} for _ in range(500)]}}
    assert (await api.post("/v1/items", json=body)).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "a\\u0000b"}',
        b'{"name": "a", "tags": ["x", "\\u0000"]}',
        b'{"name": "a", "data": {"k\\u0000": 1}}',
        b'{"name": "a", "data": {"k": [{"l": "\\u0000"}]}}',
    ],
)
async def test_a_nul_character_is_refused_wherever_it_stands(api, db, body):
    document = problem(await api.post("/v1/items", content=body, headers=JSON), 422, "invalid-input")
    assert "NUL" in document["detail"]
    assert await effects(db) == 0


async def test_a_backslash_before_u0000_is_not_a_nul_character(api):
    assert (await api.post("/v1/items", content=rb'{"name": "a\\u0000b"}', headers=JSON)).status_code == 201


@pytest.mark.parametrize("url", ["/v1/items/page?limit=%00", "/v1/items/forgot/a%00b", "/v1/%00"])
async def test_a_nul_character_in_the_address_is_refused(api, url):
    assert "NUL" in problem(await api.get(url), 422, "invalid-input")["detail"]


@pytest.mark.parametrize("body", [b"title=%00", b"title=a\x00b", b"t%00=1"])
async def test_a_nul_character_in_a_form_is_refused(api, body):
    answer = await api.post(
        "/v1/items/form", content=body, headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    )
    assert "NUL" in problem(answer, 422, "invalid-input")["detail"]


async def test_a_form_is_read(api):
    assert (await api.post("/v1/items/form", data={"title": "Grüße"})).json() == {"title": "Grüße"}


@pytest.mark.parametrize("number", ["9223372036854775808", "-9223372036854775809", "1" + "0" * 30, "9" * 5000])
async def test_a_huge_integer_is_refused(api, number):
    body = f'{{"name": "a", "data": {{"n": {number}}}}}'
    document = problem(await api.post("/v1/items", content=body, headers=JSON), 422, "invalid-input")
    assert "64 bits" in document["detail"]


@pytest.mark.parametrize("number", ["9223372036854775807", "-9223372036854775808", "0.1234567890123456789012"])
async def test_the_greatest_integers_and_long_fractions_are_taken(api, number):
    body = f'{{"name": "00000000000000000000000", "data": {{"n": {number}}}}}'
    assert (await api.post("/v1/items", content=body, headers=JSON)).status_code == 201


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "text/csv", ""])
async def test_a_wrong_content_type_is_said_to_be_wrong(api, kind):
    headers = {"Content-Type": kind} if kind else {}
    answer = await api.post("/v1/items", content=b'{"name": "a"}', headers=headers)
    assert "application/json" in problem(answer, 415, "unsupported-media")["detail"]


async def test_json_with_a_suffix_type_is_json(api):
    answer = await api.post(
        "/v1/items", content=b'{"name": "a"}', headers={"Content-Type": "application/merge-patch+json; charset=utf-8"}
    )
    assert answer.status_code == 201


async def chunks(size: int):
    for _ in range(size // 65536):
        yield b"x" * 65536


@pytest.mark.parametrize("headers", [JSON, {"Content-Type": "text/csv"}, {}])
@pytest.mark.parametrize("announced", [True, False])
async def test_ten_megabytes_are_too_large_with_and_without_content_length(api, headers, announced):
    content = b"x" * (10 << 20) if announced else chunks(10 << 20)
    document = problem(await api.post("/v1/items", content=content, headers=headers), 413, "too-large")
    assert "1048576 bytes" in document["detail"]


async def test_a_content_length_that_lies_does_not_get_more_through(api):
    answer = await api.post("/v1/items/raw", content=chunks(RAW_LIMIT + 65536), headers={"Content-Length": "10"})
    problem(answer, 413, "too-large")


@pytest.mark.parametrize("length", ["99999999999999999999999999", "-5", "abc", "1 000", "٣"])
async def test_a_content_length_that_is_no_number_does_no_harm(api, length):
    headers = [(b"content-length", length.encode()), (b"content-type", b"application/json")]
    answer = await api.post("/v1/items", content=b'{"name": "a"}', headers=headers)
    assert answer.status_code in (201, 413)


async def test_a_single_path_may_take_more(api):
    assert (await api.post("/v1/items/raw", content=chunks(RAW_LIMIT))).json() == {"bytes": RAW_LIMIT}
    problem(await api.post("/v1/items/raw", content=chunks(RAW_LIMIT + 65536)), 413, "too-large")


async def test_too_large_a_body_is_answered_before_it_is_read(app, secret):
    sent = []

    async def receive():
        raise AssertionError("the body was asked for")

    async def send(message):
        sent.append(message)

    headers = [
        (b"authorization", f"Bearer {secret}".encode()),
        (b"content-type", b"application/json"),
        (b"content-length", b"10485760"),
    ]
    scope = {"type": "http", "method": "POST", "path": "/v1/items", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    assert sent[0]["status"] == 413


async def test_a_client_that_leaves_in_the_middle_of_its_body_ends_in_a_400(app, secret, container):
    messages = [{"type": "http.request", "body": b'{"na', "more_body": True}, {"type": "http.disconnect"}]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    headers = [(b"authorization", f"Bearer {secret}".encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/items", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert container.metrics.http_in_flight._value.get() == 0
