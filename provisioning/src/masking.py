"""What the collector masks in whatever reaches it: the second line, behind the masking of the app that sends it.

By shape alone, in Go's RE2 (no look-around), so it finds less than the app does; other services send here too.
"""

from typing import Final

from provisioning.src.files import Document

SHAPES: Final = (
    # An e-mail address, also as it stands in a URL.
    r"[\w.!#%&'*+/=?^{|}~-]{1,64}(?:@|%40)(?:[\w-]{1,63}\.){1,10}[A-Za-z]{2,63}",
    # A telephone number: with its country, or with a leading zero and a break after the area.
    r"\+\d{1,3}(?:[ ()./-]{0,2}\d){6,14}",
    r"\b0\d{1,5}[ /-]\d(?:[ -]?\d){4,9}\b",
    # A card: 13 to 19 digits. It never begins with 1, as today's times in nanoseconds do.
    r"\b[2-6]\d{3}(?:[ -]?\d{4}){2}(?:[ -]?\d{1,7})\b",
    # An IBAN.
    r"\b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,4})?\b",
    # A policy or a claim: POL-0012345, CL-2026-000123.
    r"(?i)\b[A-Z]{2,4}-(?:\d{4}-\d{3,10}|\d{6,12})\b",
    # A key or a token with its usual beginning.
    r"(?i)\b(?:bearer\s+\S{8,}|sk-[\w-]{16,}|gh[pousr]_\w{20,}|xox[abprs]-[\w-]{10,})",
)
KEYS: Final = (
    r"(?i)(?:^|[._-])(?:authorization|cookie|password|secret|api[._-]?key)(?:[._-]|\z)",
    # What was said to a model and what it said: content is not captured, whatever a library does by itself.
    r"^gen_ai\.(?:input\.messages|output\.messages|system_instructions|prompt|completion|tool\.call\.(?:arguments|result))",
)
MASK: Final = "****"


def processors() -> Document:
    """`redaction` for attributes of all kinds and the bodies of logs, `transform` for what has no key."""
    return {
        "redaction": {
            "allow_all_keys": True,
            "blocked_key_patterns": list(KEYS),
            "blocked_values": list(SHAPES),
            # Otherwise it adds attributes that say what it masked.
            "summary": "silent",
        },
        "transform/names": {
            # What cannot be masked is not sent on.
            "error_mode": "propagate",
            "trace_statements": [*_masked("span.name"), *_masked("span.status.message")],
        },
    }


def _masked(field: str) -> list[str]:
    return [f'replace_pattern({field}, "{_quoted(shape)}", "{MASK}")' for shape in SHAPES]


def _quoted(pattern: str) -> str:
    """As a string of OTTL."""
    return pattern.replace("\\", "\\\\").replace('"', '\\"')
