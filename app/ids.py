"""Identifiers that sort by the time they were made."""

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_RANDOM_BYTES = 8


def new_id(kind: str) -> str:
    """`<kind>_` and 26 Crockford base32 characters: nanoseconds since 1970, then 64 random bits.

    Ids of one process sort in the order of their making (as far as its clock tells nanoseconds apart), so a list
    pages and a timeline reads by id alone.
    """
    value = time.time_ns() << 8 * _RANDOM_BYTES | int.from_bytes(os.urandom(_RANDOM_BYTES), "big")
    return f"{kind}_" + "".join([_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])
