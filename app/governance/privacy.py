"""Personal data and secrets, masked by their shape before text goes to a log, a trace or the audit log.

Where a shape is ambiguous (ten digits in a row) masking wins over keeping, but dates, times, amounts and
ids stay readable. Names and street addresses have no shape and are not found, nor is a number that is not
text: keep those out of logs.
"""

import re
from collections.abc import Mapping, Set
from functools import lru_cache
from typing import Any

_EMAIL = re.compile(
    r"[^\s@＠<>()\[\],;:\"\\]{1,64}(?:@|＠|%40)(?:[\w-]{1,63}\.){1,126}(?:xn--[\w-]{1,59}|[^\W\d_]{2,63})"
    r"|\"[^\"\n]{1,64}\"@(?:[\w-]{1,63}\.){1,126}[^\W\d_]{2,63}"
)

# Six digits with nothing between them but breaks: less is no telephone, card or IBAN.
_NUMBER = re.compile(r"\d(?:[ \u00a0\u202f./()-]{0,3}\d){5}")

_IBAN_LENGTHS = {
    15: "NO", 16: "BE", 18: "DK FI FO GL NL", 19: "MK SI", 20: "AT BA EE KZ LT LU XK", 21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA", 30: "JO KW MU", 31: "MT SC", 32: "LC", 33: "RU",
}  # fmt: skip
_IBAN = re.compile(
    r"(?<![A-Za-z\d_])(?:"
    + "|".join(
        rf"(?:{countries.replace(' ', '|')})\d\d(?:[ \u00a0-]?[A-Z\d]){{{length - 4}}}"
        for length, countries in _IBAN_LENGTHS.items()
    )
    + r")(?![A-Za-z\d_])",
    re.IGNORECASE,
)

# What contracts and claims are called by: CL-2026-000123, POL-0012345.
REFERENCE = r"[A-Z]{2,4}-(?:\d{4}-\d{3,10}|\d{6,12})"
_REFERENCE = re.compile(rf"{REFERENCE}(?!\d)", re.IGNORECASE)

_DIGIT_GROUPS = re.compile(r"(?<![A-Za-z_\d])(?<!\d[.,])\d+(?:[ \u00a0-]\d+)*(?![A-Za-z_\d])")
_CARD_DIGITS = range(13, 20)
_CARD_STARTS = "23456"

# Digits of every script count as digits; letters of scripts without spaces may touch a number.
_FREE = r"(?<![A-Za-z_\d])(?<![A-Za-z_\d][-.,])"
_END = r"(?![A-Za-z_\d])"
_DATE = r"(?:(?:19|20)\d\d[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:19|20)\d\d)(?!\d)(?:[T ]\d{1,2}[:.]\d\d)?"
_BREAK = r"[ \u00a0\u202f./()-]{0,3}"
_WORD = (
    r"(?:tele?(?:ph|f)|tél|tel\b|phone|mobile|mobil|m[óo]vil|cell|handy|fax|whatsapp|call|anruf|电话|手机|телефон)"
    r"[^\W\d]{0,8}\W{0,3}(?:(?:me|us|is|at|on|no|number|nr|unter|al|au)\W{1,3}){0,3}"
)
_PHONE = re.compile(
    rf"""
      (?P<keep>{_FREE}{_DATE})
    | (?P<word>{_WORD}) (?!{_DATE}) \+?\(?\d (?:{_BREAK}\d){{6,14}} (?!\d)
    | (?<!\d) \+\s?\(?\d (?:{_BREAK}\d){{6,14}} (?!\d)                     # +49 (0) 171 1234567
    | {_FREE} 0\d (?:{_BREAK}\d){{7,13}} (?!\d)                            # 0171/1234567, 0049 171 1234567
    | {_FREE} \(0?\d{{1,5}}\) {_BREAK} \d (?:{_BREAK}\d){{4,9}} (?!\d)     # (030) 1234567
    | {_FREE} (?<![€$£¥]) (?<![€$£¥]\s) (?:
          (?:1[ .-]?)? [2-9]\d\d [ .-] [2-9]\d\d [ .-] \d{{4}}             # 555-234-1234
        | [2-9]\d\d [2-9]\d{{6}}                                           # the same without breaks
        | 1[3-9]\d{{9}} | 1[3-9]\d [ -] \d{{4}} [ -] \d{{4}}               # 138 1234 5678
        | [6-9]\d\d [ -] \d{{3}} [ -] \d{{3}} | [6-9]\d\d (?:[ -]\d\d){{3}}  # 612 345 678, 612 34 56 78
        | [6-9]\d{{4}} [ -] \d{{5}}                                        # 98765 43210
        | 8 [ -]? \d{{3}} [ -] \d{{3}} [ -] \d\d [ -] \d\d                 # 8 800 555-35-35
      ) {_END} (?![.,]\d) (?!\s?(?:[€$£¥%]|EUR\b|USD\b|GBP\b|CHF\b))
    """,
    re.VERBOSE | re.IGNORECASE,
)

# Looked for first: a handful of substring searches cost a tenth of the patterns.
_SECRET_MARKS = (
    "trl_",
    "earer",
    "EARER",
    "asic",
    "ASIC",
    "sk-",
    "pat-",
    "SG.",
    "hf_",
    "ghp_",
    "xox",
    "AKIA",
    "eyJ",
    "://",
)
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"trl_[\w-]{8,}"), "trl_[secret]"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), r"\1 [secret]"),
    (re.compile(r"\b(?:sk-|pat-|SG\.|hf_|ghp_|xox[abp]-|AKIA)[\w.-]{12,}"), "[secret]"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), "[secret]"),
    (re.compile(r"(://[^\s:/@]{0,100}:)[^\s/@]{1,200}@"), r"\1[secret]@"),
)
_SECRET_FIELDS = frozenset(
    {"password", "passwd", "secret", "token", "authorization", "cookie", "set_cookie", "api_key", "private_key"}
)
_SECRET_ENDINGS = ("_secret", "_password", "_api_key", "access_token", "refresh_token")
_PERSONAL_FIELDS = {"email": "[email]", "phone": "[phone]", "mobile": "[phone]", "telephone": "[phone]"}
_NUMBERS = (bool, int, float)
_DEEPEST = 8
_LONGEST_NAME = 40
_LONGEST_TEXT = 20_000


def mask(text: str) -> str:
    """E-mail addresses, IBANs, payment cards (13-19 digits that pass Luhn's check), telephone numbers and numbers of
    contracts (`REFERENCE`) give way to `[email]`, `[iban]`, `[card]`, `[phone]`, `[number]`; everything else stays as
    it is.
    """
    if "@" in text or "＠" in text or "%40" in text:
        text = _EMAIL.sub("[email]", text)
    if _NUMBER.search(text):
        text = _IBAN.sub(_iban, text)
        text = _REFERENCE.sub("[number]", text)
        text = _DIGIT_GROUPS.sub(_cards, text)
        text = _PHONE.sub(_phone, text)
    return text


def mask_secrets(text: str) -> str:
    """API keys, bearer and basic credentials, JSON web tokens and passwords in URLs give way to `[secret]`."""
    for mark in _SECRET_MARKS:
        if mark in text:
            break
    else:
        return text
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def scrub(value: Any, _depth: int = 0) -> Any:
    """The value as JSON-able data with personal data and secrets masked in every text, at any depth.

    A field whose name says that it holds a secret, an address or a number is masked whole.
    What is not JSON becomes its text, masked. Of a text over 20,000 characters only its two ends stay.
    """
    if isinstance(value, str):
        return _scrub_text(value)
    if value is None or isinstance(value, _NUMBERS):
        return value
    if _depth >= _DEEPEST:
        return "[too deep]"
    if isinstance(value, Mapping):
        return {
            _name(str(name)): _field(_instead(str(name)[-_LONGEST_NAME:]), item, _depth + 1)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple | Set):
        return [scrub(item, _depth + 1) for item in value]
    return _scrub_text(_text(value))


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} that has no text>"


def _scrub_text(text: str) -> str:
    # A word: most of what a log line says, and without a digit or a mark there is nothing to look for.
    if text.isalpha() and len(text) <= _LONGEST_NAME:
        return text
    return mask(mask_secrets(text if len(text) <= _LONGEST_TEXT else _cut(text)))


def _cut(text: str) -> str:
    """The start and the end (a traceback's last line is the one that counts), cut between words."""
    head = "".join(text[: _LONGEST_TEXT // 2].rsplit(None, 1)[:1])
    tail = "".join(text[-_LONGEST_TEXT // 2 :].split(None, 1)[-1:])
    return f"{head} [{len(text) - len(head) - len(tail)} characters left out] {tail}"


def _name(name: str) -> str:
    # A short identifier has no room for a secret and no marks for an address: most names stop here.
    return name if len(name) <= _LONGEST_NAME and name.isidentifier() else str(scrub(name))


def _field(instead: str | None, value: Any, depth: int) -> Any:
    if value is None:
        return None
    return instead or scrub(value, depth)


# Logs say the same few names over and over.
@lru_cache(maxsize=1024)
def _instead(name: str) -> str | None:
    """What stands for every value of a field whose name ends so; None where the value itself decides."""
    lowered = name.lower().replace("-", "_")
    if lowered in _SECRET_FIELDS or lowered.endswith(_SECRET_ENDINGS):
        return "[secret]"
    return _PERSONAL_FIELDS.get(lowered)


def _iban(match: re.Match[str]) -> str:
    found = match.group()
    digits = sum(map(str.isdigit, found))
    return "[iban]" if digits >= len(found) / 2 else found


def _phone(match: re.Match[str]) -> str:
    if match["keep"] is not None:
        return match.group()
    return f"{match['word'] or ''}[phone]"


def _cards(match: re.Match[str]) -> str:
    """Masks each card in a run of digit groups; a card starts and ends with a group, and two may overlap."""
    groups = list(re.finditer(r"\d+", match.group()))
    kept, position, covered = [], 0, -1
    for first, group in enumerate(groups):
        last = _card_end(groups, first)
        if last is None or last <= covered:
            continue
        if first > covered:
            kept += [match.group()[position : group.start()], "[card]"]
        position, covered = groups[last].end(), last
    return "".join(kept) + match.group()[position:]


def _card_end(groups: list[re.Match[str]], first: int) -> int | None:
    """The last group of the longest card that starts with group `first`; None where there is none."""
    digits, end = "", None
    for last in range(first, len(groups)):
        digits += groups[last].group()
        if len(digits) >= _CARD_DIGITS.stop:
            break
        if len(digits) in _CARD_DIGITS and digits[0] in _CARD_STARTS and _luhn(digits):
            end = last
    return end


def _luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
