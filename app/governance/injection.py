"""Finds text that gives orders to the agent: one layer; what a model may do is held by the tool policy.

The rules, each a pattern family, matched on a cleaned copy of the text (compatibility forms, look-alike letters,
accents and invisible characters folded away, letters s p a c e d out put together):

- override: "ignore the instructions above" and its like, in eleven languages
- role: a new identity, a mode without rules, a claim to be the developer or an administrator who gives orders
- frame: a false system, assistant or tool message, a chat template's markers, a false end of the data
- address: a note to the AI that reads this, rather than to a person
- tool: an order to call a tool, to set an approval, to act without asking
- exfiltrate: the prompt, the secrets or other customers' data asked for; an image or link that carries data out
- secrecy: the user or the operator is not to be told
- hidden: invisible characters inside words, reversed writing direction, tag characters, markup hidden from readers
- comment: an HTML comment that speaks to the reader of the source
- encoded: base64, hex, percent, escape or ROT13 text that decodes to any of the above

Low false positives come before completeness: "please ignore my previous e-mail" is a customer's sentence.
"""

import base64
import binascii
import codecs
import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from app.governance.injection_rules import COMMENT_SPEAKS, DECODED_ORDER, HIDDEN_MARKUP, RULES

EXCERPT = 120
MAX_DEPTH = 2
# A regular expression holds the interpreter while it runs: a long text is looked at piece by piece, 25 ms at most each.
WINDOW, OVERLAP = 6000, 800
ROTATED_RULES = ("override", "exfiltrate", "tool")
_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u180e\u00ad"
_INVISIBLE = re.compile(f"[{_ZERO_WIDTH}\u200e\u200f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
_INSIDE_WORD = re.compile(r"[A-Za-z][\u200b\u200c\u200d\u2060\ufeff\u180e]+[A-Za-z]")
_DIRECTION = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
_FLAG = re.compile("\U0001f3f4[\U000e0061-\U000e007a]{1,6}\U000e007f")
_TAGS = re.compile("[\U000e0020-\U000e007e]{2,}")
_COMMENT = re.compile(r"<!--(.{0,4000}?)(?:-->|\Z)", re.DOTALL)
_SPACED = re.compile(r"(?<!\w)(?:\w[ ._\-*]{1,2}){5,}\w(?!\w)")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(r"(?<![0-9a-fA-F])(?:[0-9a-fA-F]{2}[ :]?){12,}")
_PERCENT = re.compile(r"(?:%[0-9a-fA-F]{2}[\w.!,+-]*){6,}")
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}){4,}")
_LOOK_ALIKE = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u0578\u051d\u043a\u043c\u0442\u04cf\u0261\u03b1\u03bf\u03b5\u03c1\u03c4\u03c5\u03b9\u03ba\u03bd\u03c7",
    "aeopcyxijsdhnwkmtlgaoeptuikvx",
)
_WRAP = re.compile(r"(?<!\n)\n(?!\n)")
_WORD = re.compile(r"\w+")
_LATIN = re.compile(r"[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule's name, and the place that it found, cleaned, at most 120 characters."""

    rule: str
    excerpt: str


def suspicious(text: str) -> list[Finding]:
    """What in `text` looks like an order to the agent, one finding a rule; empty for ordinary text."""
    found: dict[str, Finding] = {}
    for start in range(0, max(len(text) - OVERLAP, 1), WINDOW - OVERLAP):
        for finding in _findings(text[start : start + WINDOW], depth=0):
            found.setdefault(finding.rule, finding)
    return list(found.values())


def _findings(text: str, depth: int) -> Iterator[Finding]:
    yield from _hidden(text)
    lines = clean(text)
    # A sentence goes on over a line's end; a frame is told by where a line begins.
    flowing = _WRAP.sub(" ", lines)
    for rule, pattern in RULES:
        match = pattern.search(lines if rule == "frame" else flowing)
        if match:
            yield Finding(rule, _excerpt(match[0]))
    yield from _comments(text)
    if depth < MAX_DEPTH:
        for source, decoded in _decoded(text):
            if DECODED_ORDER.search(clean(decoded)) or any(True for _ in _findings(decoded, depth + 1)):
                yield Finding("encoded", _excerpt(source))
        rotated = clean(codecs.encode(text, "rot13"))
        if any(pattern.search(rotated) for rule, pattern in RULES if rule in ROTATED_RULES):
            yield Finding("encoded", _excerpt(text))


def clean(text: str) -> str:
    """The text as it is meant to be read: what is invisible, disguised or spaced out undone; lower case, no accents."""
    shown = _INVISIBLE.sub("", _tags_shown(html.unescape(text)))
    # What follows leaves ASCII as it is, at a millisecond for a page.
    plain = shown.casefold() if shown.isascii() else _folded(shown)
    joined = _SPACED.sub(lambda run: re.sub(r"[ ._\-*]", "", run[0]), plain)
    joined = re.sub(r"(?<=\w)[*`]+(?=\w)", "", joined)
    return re.sub(r"[^\S\n]+", " ", joined)


def _folded(text: str) -> str:
    """Lower case, compatibility forms and look-alike letters as plain ones, no accents."""
    folded = unicodedata.normalize("NFKC", text.translate(_PHRASES)).casefold()
    folded = _WORD.sub(_alike_as_latin, folded)
    apart = unicodedata.normalize("NFKD", folded.translate(_PLAIN))
    plain = "".join(mark for mark in apart if not unicodedata.combining(mark) or "\u3099" <= mark <= "\u309a")
    return unicodedata.normalize("NFC", plain)


_PLAIN = str.maketrans({"ł": "l", "ß": "ss", "ø": "o", "’": "'", "‘": "'", "´": "'"})

# Two characters stand for whole Arabic phrases: NFKC would make 18 characters, or 8, of each.
_PHRASES = str.maketrans({"\ufdfa": " ", "\ufdfb": " "})


def _alike_as_latin(word: re.Match[str]) -> str:
    """A word that mixes Latin letters with look-alikes, in Latin letters; a word of another script as it is."""
    return word[0].translate(_LOOK_ALIKE) if _LATIN.search(word[0]) else word[0]


def _tags_shown(text: str) -> str:
    """Unicode tag characters as the ASCII that they stand for (a model reads them, a person does not)."""
    return _TAGS.sub(lambda run: "".join(chr(ord(mark) - 0xE0000) for mark in run[0]), _FLAG.sub("", text))


def _hidden(text: str) -> Iterator[Finding]:
    without_flags = _FLAG.sub("", text)
    for pattern in (_INSIDE_WORD, _DIRECTION, _TAGS):
        match = pattern.search(without_flags)
        if match:
            place = without_flags[max(match.start() - 20, 0) : match.end() + 20]
            yield Finding("hidden", _excerpt(_INVISIBLE.sub("", place)))
    match = HIDDEN_MARKUP.search(text)
    if match:
        yield Finding("hidden", _excerpt(match[0]))


def _comments(text: str) -> Iterator[Finding]:
    for match in _COMMENT.finditer(text):
        if COMMENT_SPEAKS.search(clean(match[1])):
            yield Finding("comment", _excerpt(match[1].strip()))


def _decoded(text: str) -> Iterator[tuple[str, str]]:
    """Each encoded run with what it says, where it says something."""
    ways: tuple[tuple[re.Pattern[str], Callable[[str], str]], ...] = (
        (_BASE64, _from_base64),
        (_HEX, _from_hex),
        (_PERCENT, unquote),
        (_ESCAPES, lambda run: codecs.decode(run.encode(), "unicode_escape")),
    )
    for pattern, decode in ways:
        for match in pattern.finditer(text):
            decoded = decode(match[0])
            if sum(character.isalpha() for character in decoded) > 8:
                yield match[0], decoded


def _from_base64(run: str) -> str:
    standard = run.rstrip("=").replace("-", "+").replace("_", "/")
    # A run that a word of plain text was caught in front of does not decode: nothing to find there.
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _from_hex(run: str) -> str:
    try:
        return bytes.fromhex(run.replace(":", " ")).decode("utf-8")
    except (ValueError, UnicodeDecodeError):
        return ""


def _excerpt(text: str) -> str:
    return " ".join(text.split())[:EXCERPT]
