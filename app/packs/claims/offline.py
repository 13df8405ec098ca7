"""The offline rule of `claims_answer`: looks up what the words ask for and says the figures. No language model.

English questions about a person's own records are known by their words; every other question is answered by quoting
passages (`app.conversation.offline`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.agent.model import ModelRequest, ToolCall
from app.agent.offline import OfflineRule
from app.governance.privacy import REFERENCE
from app.packs.claims.models import ClaimState
from app.packs.claims.schemas import OPEN_CLAIMS
from app.packs.claims.tools import BALANCE, CLAIMS, DETAILS, POLICIES

_CALL_ID = "offline"
_NUMBER = re.compile(rf"\b{REFERENCE}\b", re.IGNORECASE)
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_OWN = re.compile(r"\b(?:i|my|me|mine|we|our)\b")
_HOW_TO = re.compile(
    r"\b(?:how (?:do|can|should|to|long|soon)|where (?:do|can|should)|which documents|deadline|appeal)\b"
)
_BALANCE = re.compile(r"\b(?:how much|balance|left|remain\w*|used up|allowance)\b")
_POLICY = re.compile(r"\b(?:polic(?:y|ies)|insured)\b")
_CLAIM = re.compile(r"\b(?:claims?|claimed|reimbursements?)\b")
_STATES = (
    (re.compile(r"\b(?:reject|declin|refus|denied)\w*"), ClaimState.REJECTED),
    (re.compile(r"\b(?:missing|needs?) documents?\b"), ClaimState.NEEDS_DOCUMENTS),
    (re.compile(r"\b(?:open|pending|outstanding|waiting|unpaid)\b"), OPEN_CLAIMS),
    (re.compile(r"\b(?:in review|reviewed)\b"), ClaimState.IN_REVIEW),
    (re.compile(r"\bapproved\b"), ClaimState.APPROVED),
    (re.compile(r"\bpaid\b"), ClaimState.PAID),
)
_NO_CLAIMS = "You have no such claims."
_SAID = {ClaimState.IN_REVIEW: "in review", ClaimState.NEEDS_DOCUMENTS: "waiting for documents"}


@dataclass(frozen=True, slots=True)
class Wish:
    """A look-up that the question asks for."""

    tool: str
    args: Mapping[str, Any]


def wish(question: str) -> Wish | None:
    """What to look up; None where the question is not about the asker's own records."""
    text = question.lower()
    number = _NUMBER.search(text)
    if number and not _POLICY.search(text):
        return Wish(DETAILS, {"number": number[0].upper()})
    if not _OWN.search(text) or _HOW_TO.search(text):
        return None
    found = _YEAR.search(_NUMBER.sub("", text))
    year = {"year": int(found[0])} if found else {}
    if _CLAIM.search(text):
        state = next((state for pattern, state in _STATES if pattern.search(text)), None)
        return Wish(CLAIMS, year | ({"state": str(state)} if state else {}))
    if _BALANCE.search(text):
        return Wish(BALANCE, year)
    return Wish(POLICIES, {}) if _POLICY.search(text) else None


class ClaimsRule:
    """An `OfflineRule`.

    Args:
        quoting: answers what is asked of the pages.
    """

    def __init__(self, quoting: OfflineRule) -> None:
        self._quoting = quoting

    def __call__(self, request: ModelRequest) -> str | tuple[ToolCall, ...]:
        told = next((message for message in request.messages if message.role == "tool"), None)
        question = str(request.facts["question"])
        wanted = wish(question)
        if wanted is None:
            return self._quoting(request)
        if told is not None:
            return said(wanted.tool, told.content, question)
        if wanted.tool in {tool.name for tool in request.tools}:
            return (ToolCall(_CALL_ID, wanted.tool, orjson.dumps(wanted.args).decode()),)
        return self._quoting(request)


def said(tool: str, told: str, question: str) -> str:
    """The answer to a question from what the tool told the model: JSON. An error of the tool is told as it is."""
    result = orjson.loads(told)
    if isinstance(result, Mapping) and "error" in result:
        return str(result["error"])
    return _SENTENCES[tool](result, question.lower())


def _details(claim: Mapping[str, Any], _question: str) -> str:
    note = f" Note: {claim['note']}" if claim["note"] else ""
    return f"Your {_claim(claim)}.{note}"


def _claims(result: Mapping[str, Any], _question: str) -> str:
    if not result["claims"]:
        return _NO_CLAIMS
    lines = [f"- {_claim(claim)}" for claim in result["claims"]]
    more = result["count"] - len(lines)
    if more > 0:
        lines.append(f"- and {more} more")
    claimed, paid = (" and ".join(result[name]) for name in ("claimed", "paid"))
    count = f"{result['count']} claim{'s' if result['count'] > 1 else ''}"
    return "\n".join([f"You have {count}: {claimed} claimed, {paid} paid.", *lines])


def _balance(result: Mapping[str, Any], question: str) -> str:
    rows = result["balances"]
    if not rows:
        return f"You had no policy in force in {result['year']}."
    asked = [row for row in rows if row["benefit"] in question] or rows
    lines = [
        f"- {row['benefit']} ({row['product']}): {row['left']} left of {row['limit']}; {row['paid']} paid, "
        f"{row['pending']} pending"
        for row in asked
    ]
    return "\n".join([f"For {result['year']} you have:", *lines])


def _policies(result: Mapping[str, Any], _question: str) -> str:
    if not result["policies"]:
        return "You have no policy with us."
    return "\n".join(["Your policies:", *(_policy(policy) for policy in result["policies"])])


def _policy(policy: Mapping[str, Any]) -> str:
    until = f" until {policy['ends_on']}" if policy["ends_on"] else ""
    limits = ", ".join(f"{benefit} {limit}" for benefit, limit in policy["limits"].items())
    return f"- {policy['number']}, {policy['product']}, from {policy['starts_on']}{until}; a year: {limits}"


def _claim(claim: Mapping[str, Any]) -> str:
    state = _SAID.get(claim["state"], claim["state"])
    return (
        f"claim {claim['number']} ({claim['benefit']}, {claim['incurred_on']}) is {state}: {claim['claimed']} claimed, "
        f"{claim['paid']} paid"
    )


_SENTENCES: Mapping[str, Callable[[Mapping[str, Any], str], str]] = {
    DETAILS: _details,
    CLAIMS: _claims,
    BALANCE: _balance,
    POLICIES: _policies,
}
