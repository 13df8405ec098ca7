"""What no endpoint should have to think about: text that cannot be stored, JSON that cannot be trusted."""

import json
from typing import Any, NoReturn

import orjson

from app.errors import InvalidInput, Malformed

MAX_DEPTH = 64
MAX_MEMBERS = 2_000
_INT64 = 1 << 63
_DIGITS = bytes(ord("0") if chr(code).isdigit() and code < 128 else 0 for code in range(256))
_LONG_NUMBER = b"0" * 19
_NUL_ESCAPE = b"\\u0000"


def strict_json(body: bytes) -> Any:
    """Parses JSON as RFC 8259 has it, within bounds that every store keeps.

    Raises:
        Malformed: not UTF-8, not JSON (NaN, Infinity and lone surrogates are not), or deeper than `MAX_DEPTH`.
        InvalidInput: a string holds a NUL character (PostgreSQL's text cannot), an integer needs over 64 bits, or an
            object has over `MAX_MEMBERS` members (each of which may become an error with a sentence of its own).
    """
    if _LONG_NUMBER in body.translate(_DIGITS):
        _refuse_huge_integers(body)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"The body is not valid JSON in UTF-8: {error}.") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _refuse_deep(value)
    if body.count(b":") > MAX_MEMBERS:
        _refuse_wide(value)
    if _NUL_ESCAPE in body:
        _refuse_nul(value)
    return value


def refuse_nul_target(path: str, query: bytes) -> None:
    """Raises InvalidInput where the address holds a NUL character, plain or percent-encoded."""
    if "\0" in path or b"%00" in query or b"\0" in query:
        raise InvalidInput("The address holds a NUL character (%00): leave it out.")


def refuse_nul_form(body: bytes) -> None:
    """Raises InvalidInput where a URL-encoded form holds a NUL character."""
    if b"%00" in body or b"\0" in body:
        raise InvalidInput("The form holds a NUL character (%00): leave it out.")


def _bounded_integer(digits: str) -> int:
    # 20 characters hold every 64-bit integer with its sign; int() itself refuses more than 4,300.
    if len(digits) > 20 or not -_INT64 <= int(digits) < _INT64:
        raise InvalidInput(f"The integer {digits[:24]}… needs more than 64 bits: send a smaller one, or a string.")
    return int(digits)


def _refuse_huge_integers(body: bytes) -> None:
    # orjson reads an integer beyond 64 bits as a float, silently; the standard parser hands over its digits.
    try:
        json.loads(body, parse_int=_bounded_integer)
    except RecursionError:
        _too_deep()
    except ValueError:
        return  # not JSON at all: the parser that comes next says where


def _refuse_deep(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    _too_deep()


def _refuse_wide(value: Any) -> None:
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, dict) and len(node) > MAX_MEMBERS:
            raise InvalidInput(f"An object of the body has {len(node):,} members: send at most {MAX_MEMBERS:,}.")
        pending.extend(child for child in _children(node) if isinstance(child, dict | list))


def _too_deep() -> NoReturn:
    raise Malformed(f"The body nests deeper than {MAX_DEPTH} levels: flatten it.")


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def _refuse_nul(value: Any) -> None:
    pending = [("", value)]
    while pending:
        where, node = pending.pop()
        if isinstance(node, str) and "\0" in node:
            raise InvalidInput(f"{where or 'The body'} holds a NUL character (\\u0000): leave it out.")
        if isinstance(node, dict):
            if any("\0" in key for key in node):
                raise InvalidInput(f"A name in {where or 'the body'} holds a NUL character (\\u0000): leave it out.")
            pending.extend((f"'{key[:80]}'", child) for key, child in node.items())
        elif isinstance(node, list):
            pending.extend((where, child) for child in node)
