"""The offline rule: which words ask for which look-up, and what is said of what it gave."""

import orjson
import pytest

from app.agent.model import Message, ModelRequest, ToolCall, ToolSpec
from app.packs.claims.offline import ClaimsRule, Wish, said, wish
from app.packs.claims.tools import BALANCE, CLAIMS, DETAILS, POLICIES, TOOLS


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the status of claim CL-2026-000123?", Wish(DETAILS, {"number": "CL-2026-000123"})),
        ("cl-2026-000123", Wish(DETAILS, {"number": "CL-2026-000123"})),
        ("How much dental do I have left this year?", Wish(BALANCE, {})),
        ("What was my optical balance in 2025?", Wish(BALANCE, {"year": 2025})),
        ("my claims", Wish(CLAIMS, {})),
        ("Show my rejected claims of 2025", Wish(CLAIMS, {"year": 2025, "state": "rejected"})),
        ("Which of my claims are still open?", Wish(CLAIMS, {"state": "open"})),
        ("What was I paid for my claims?", Wish(CLAIMS, {"state": "paid"})),
        ("Which policies do I have?", Wish(POLICIES, {})),
        ("What does my policy HH-2024-004102 pay?", Wish(POLICIES, {})),
        ("How do I submit a claim?", None),
        ("How long does my claim take?", None),
        ("Which documents do I need for my claim?", None),
        ("Do you pay for crowns?", None),
        ("How much does physiotherapy cover?", None),
        ("", None),
    ],
)
def test_the_words_say_what_to_look_up(question, expected):
    assert wish(question) == expected


def request(question: str, *messages: Message, tools: tuple[str, ...] = TOOLS) -> ModelRequest:
    offered = tuple(ToolSpec(name, "", {}) for name in tools)
    return ModelRequest((Message("user", question), *messages), offered, facts={"question": question})


def test_the_look_up_is_asked_for_then_told():
    rule = ClaimsRule(lambda _request: "quoted")
    (call,) = rule(request("my claims"))
    assert (call.name, orjson.loads(call.arguments)) == (CLAIMS, {})
    result = {"claims": [], "count": 0, "claimed": [], "paid": []}
    told = (
        Message("assistant", "", (call,)),
        Message("tool", orjson.dumps(result).decode(), tool_call_id=call.id),
    )
    assert rule(request("my claims", *told, tools=())) == "You have no such claims."


def test_without_tools_or_such_words_the_pages_answer():
    rule = ClaimsRule(lambda _request: "quoted")
    assert rule(request("my claims", tools=())) == "quoted"
    assert rule(request("Do you pay for crowns?")) == "quoted"


def test_an_error_of_a_tool_is_told_as_it_is():
    assert said(DETAILS, '{"error":"There is none."}', "") == "There is none."


def test_figures_are_those_of_the_tool():
    claim = {
        "number": "CL-2026-000123",
        "benefit": "dental",
        "incurred_on": "2026-03-01",
        "state": "needs_documents",
        "claimed": "10.00 EUR",
        "paid": "0.00 EUR",
        "note": "Send the invoice.",
    }
    assert said(DETAILS, orjson.dumps(claim).decode(), "") == (
        "Your claim CL-2026-000123 (dental, 2026-03-01) is waiting for documents: 10.00 EUR claimed, 0.00 EUR paid. "
        "Note: Send the invoice."
    )
    result = {"claims": [claim], "count": 3, "claimed": ["30.00 EUR", "4.00 CHF"], "paid": ["0.00 EUR", "1.00 CHF"]}
    text = said(CLAIMS, orjson.dumps(result).decode(), "")
    assert text.startswith("You have 3 claims: 30.00 EUR and 4.00 CHF claimed, 0.00 EUR and 1.00 CHF paid.")
    assert text.endswith("- and 2 more")


def test_a_benefit_that_is_named_is_the_one_that_is_told():
    def row(benefit: str) -> dict[str, str]:
        return {
            "benefit": benefit,
            "product": "Core",
            "left": "1 EUR",
            "limit": "2 EUR",
            "paid": "1 EUR",
            "pending": "0",
        }

    result = orjson.dumps({"year": 2026, "balances": [row("dental"), row("mental health")]}).decode()
    assert "dental" not in said(BALANCE, result, "How much is left for Mental Health?")
    assert "dental" in said(BALANCE, result, "What is left?")
    none = orjson.dumps({"year": 1999, "balances": []}).decode()
    assert said(BALANCE, none, "") == "You had no policy in force in 1999."


def test_a_call_is_an_ordinary_tool_call():
    (call,) = ClaimsRule(lambda _request: "")(request("cl-2026-000123"))
    assert call == ToolCall("offline", DETAILS, '{"number":"CL-2026-000123"}')
