"""Personal data and secrets never survive the mask; what people need to read does."""

import string
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.governance.privacy import REFERENCE, mask, scrub
from app.ids import new_id

# Words around the planted data; no digits, which would make another number of it.
around = st.text(alphabet=string.ascii_letters + " .,;:!?äé中", max_size=30)


def _luhn_complete(body: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 - place % 2)
        total += value - 9 if value > 9 else value
    return body + str(-total % 10)


def _grouped(digits: str, sizes: list[int], separator: str) -> str:
    parts, start = [], 0
    for size in sizes:
        parts.append(digits[start : start + size])
        start += size
    return separator.join(part for part in parts if part)


@st.composite
def cards(draw: st.DrawFn) -> str:
    start, length, sizes = draw(
        st.sampled_from([("4", 16, [4] * 4), ("51", 16, [4] * 4), ("37", 15, [4, 6, 5]), ("6011", 16, [4] * 4)])
    )
    digits = draw(st.text(alphabet=string.digits, min_size=length, max_size=length))
    number = _luhn_complete((start + digits)[: length - 1])
    return _grouped(number, sizes, draw(st.sampled_from(["", " ", "-"])))


@st.composite
def ibans(draw: st.DrawFn) -> str:
    country, length = draw(st.sampled_from([("DE", 22), ("NO", 15), ("FR", 27), ("GB", 22), ("MT", 31), ("ES", 24)]))
    letters = {"GB": "WEST", "MT": "MALT"}.get(country, "")
    digits = draw(st.text(alphabet=string.digits, min_size=length, max_size=length))
    compact = (country + digits[:2] + letters + digits)[:length]
    written = _grouped(compact, [4] * 8, draw(st.sampled_from(["", " "])))
    return draw(st.sampled_from([written, written.lower()]))


PHONE_SHAPES = [
    "+49 171 #######", "+49 (0) 171 ######", "+1 (555) 2##-####", "+44-20-7###-####", "+86 138 #### ####",
    "+33.6.##.##.##.##", "0049 171 #######", "0171/#######", "030 ######", "(030) ######", "06 ## ## ## ##",
    "06.##.##.##.##", "07### ######", "555-2##-####", "(555) 2##-####", "555.2##.####", "1-800-5##-####",
    "6## ### ###", "6## ## ## ##", "9#### #####", "138########", "8 800 ###-##-##", "tel. #######",
    "Telefon: ########", "call me at ########", "WhatsApp ##########",
]  # fmt: skip


@st.composite
def phones(draw: st.DrawFn) -> str:
    shape = draw(st.sampled_from(PHONE_SHAPES))
    return "".join(draw(st.sampled_from("123456789")) if mark == "#" else mark for mark in shape)


def _digits(text: str) -> int:
    return sum(map(str.isdigit, text))


@given(around, st.emails(), around)
def test_an_email_never_survives(before: str, email: str, after: str) -> None:
    masked = mask(f"{before} {email} {after}")
    assert email not in masked
    assert "[email]" in masked
    assert "@" not in masked


@given(around, cards(), around)
def test_a_card_never_survives(before: str, card: str, after: str) -> None:
    assert mask(f"{before} {card} {after}") == f"{before} [card] {after}"


@given(st.integers(1, 99), cards(), st.integers(1, 99))
def test_a_card_between_other_numbers_is_found(before: int, card: str, after: int) -> None:
    masked = mask(f"{before} {card} {after}")
    assert "[card]" in masked
    assert _digits(masked) <= 4


@given(around, ibans(), around)
def test_an_iban_never_survives(before: str, iban: str, after: str) -> None:
    masked = mask(f"{before}: {iban} . {after}")
    assert iban not in masked
    assert _digits(masked) == 0


@given(around, phones(), around)
def test_a_phone_number_never_survives(before: str, phone: str, after: str) -> None:
    masked = mask(f"{before} {phone} {after}")
    assert "[phone]" in masked
    assert _digits(masked) <= 1


@pytest.mark.parametrize("text", ["claimCL-2026-000123-copy", "保单HH-2024-004102号", "x_cl-2026-000123.pdf"])
def test_a_contracts_number_that_touches_other_text_is_found(text: str) -> None:
    assert _digits(mask(text)) == 0


@given(around, st.from_regex(rf"\A{REFERENCE}\Z"), around)
def test_a_contracts_number_never_survives(before: str, number: str, after: str) -> None:
    assert number not in mask(f"{before} {number.lower()} or {number}, {after}").replace(number.lower(), number)


@pytest.mark.parametrize("text", ["ISO-27001", "UTF-16", "ISO-8859-1", "GPT-4", "a-2026-03-02", "sha-256", "x86-64"])
def test_names_with_digits_stay(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    "text", ["电话13812345678", "卡号4111111111111111。", "u?email=a%40b.com&x=1", "a＠example.org"]
)
def test_data_that_touches_other_text_is_found(text: str) -> None:
    assert _digits(mask(text).replace("x=1", "")) == 0
    assert "example" not in mask(text)
    assert "b.com" not in mask(text)


@given(st.integers(0, 999_999_999), st.sampled_from(["{:,}", "${:,}.99", "{:,} EUR", "{} EUR", "{} ms", "order {}"]))
def test_prices_and_counts_stay(number: int, shape: str) -> None:
    text = shape.format(number)
    assert mask(text) == text
    german = text.replace(",", ".") + ",50 €" if shape == "{:,}" else text
    assert mask(german) == german


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6))
def test_decimals_stay(number: float) -> None:
    assert mask(f"score {number:.6f}") == f"score {number:.6f}"


DATE_SHAPES = [
    "%Y-%m-%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%Y-%m-%dT%H:%M:%S+00:00",
    "%d.%m.%Y %H:%M",
    "%H:%M",
    "%d %B %Y",
    "%Y%m%d",
]


@given(st.datetimes(datetime(1990, 1, 1), datetime(2089, 12, 31)), st.sampled_from(DATE_SHAPES), around)  # noqa: DTZ001
def test_dates_and_times_stay(moment: datetime, shape: str, after: str) -> None:
    text = f"on {moment.strftime(shape)} {after}"
    assert mask(text) == text


def test_date_ranges_stay() -> None:
    start = date(2026, 3, 2)
    text = f"{start} - {start + timedelta(days=7)}, 02.03.2026 - 09.03.2026, 2019-2024, call us on 2026-03-02"
    assert mask(text) == text


def test_ids_stay() -> None:
    for _ in range(300):
        text = f"{new_id('lead')} decided by {new_id('key')}"
        assert mask(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "192.168.100.200",
        "127.0.0.1:8080",
        "1700000000",
        "1700000000123",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "version 1.20.0",
        "between 09:00-17:30, rooms 101-105",
        "call 300 customers",
        "order 4111 1111 1111 1112",
        "invoice 3000000000000001",
        "612 345 678 EUR",
        "€ 612 345 678",
        "2345678901 $",
        "612 345 678,50",
        "3 boxes@5.99",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert mask(text) == text


@given(st.text())
def test_masking_twice_changes_nothing_more(text: str) -> None:
    assert mask(mask(text)) == mask(text)


SECRETS = [
    "trl_" + "aB3-_" * 8,
    "Bearer abcdef123456",
    "authorization: Basic dXNlcjpwYXNzd29yZA==",
    "sk-proj-abcdefghijklmnopqrstuv",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijk",
    "postgresql+asyncpg://trellis:hunter22@db:5432/trellis",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_never_survives_at_any_depth(secret: str) -> None:
    scrubbed = str(scrub({"a": [{"b": (secret,)}], "text": f"sent {secret}."}))
    assert scrubbed.count("[secret]") == 2
    for part in ("aB3", "abcdef123456", "dXNlcjpwYXNz", "abcdefghijkl", "eyJzdWI", "hunter22"):
        assert part not in scrubbed


@pytest.mark.parametrize(
    "name", ["password", "Authorization", "X-API-Key", "client_secret", "refresh_token", "token", "phone"]
)
def test_a_field_named_for_a_secret_is_masked_whole(name: str) -> None:
    assert scrub({"headers": {name: "plain words"}})["headers"][name] in {"[secret]", "[phone]"}


def test_what_is_not_secret_keeps_its_value_and_type() -> None:
    value = {"tokens": 12, "cost": 0.5, "ok": True, "none": None, "password": None, "items": ["a", 1]}
    assert scrub(value) == value


def test_an_object_becomes_its_masked_text() -> None:
    class Person:
        def __str__(self) -> str:
            return "Ada <ada@example.org>"

    assert scrub([Person(), {"ada@example.org": 1}]) == ["Ada <[email]>", {"[email]": 1}]


def test_an_object_that_cannot_say_what_it_is_breaks_no_log_line() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("lazy load")

    assert scrub({"row": Broken()}) == {"row": "<Broken that has no text>"}


@pytest.mark.parametrize("text", [" " * 30_000, "x" * 30_000])
def test_an_endless_text_without_words_is_cut_too(text: str) -> None:
    assert len(scrub(text)) < 20_100


def test_of_an_endless_text_the_two_ends_stay_masked() -> None:
    scrubbed = scrub("first ada@example.org " + "word " * 100_000 + "ValueError: grace@example.org")
    assert scrubbed.startswith("first [email] word")
    assert scrubbed.endswith("word ValueError: [email]")
    assert "characters left out]" in scrubbed
    assert len(scrubbed) < 20_100


def test_bottomless_data_ends() -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    assert "[too deep]" in str(scrub(loop))
