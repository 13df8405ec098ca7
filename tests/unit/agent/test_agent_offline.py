import pytest

from app.agent.model import Message, ModelError, ModelRequest, ToolCall, ToolSpec, estimate_input_tokens
from app.agent.offline import OfflineModel
from app.agent.schema import strict_schema
from app.agent.wire import Dialect, encode, error_code
from tests.support.agents import Verdict, ask


async def test_the_rule_of_the_prompt_answers_from_the_facts() -> None:
    model = OfflineModel({"decide": lambda request: f"score {request.facts['score']}"})
    reply = await model.complete(ask("x" * 394, prompt="decide", facts={"score": 7}), timeout_s=1)
    assert (reply.text, reply.model, reply.finish_reason) == ("score 7", "offline", "stop")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (101, 2)


async def test_a_rule_may_ask_for_tools_first() -> None:
    call = ToolCall("c1", "search", '{"query": "price"}')
    model = OfflineModel({"decide": lambda _request: (call,)})
    reply = await model.complete(ask(prompt="decide"), timeout_s=1)
    assert (reply.text, reply.tool_calls, reply.finish_reason) == ("", (call,), "tool_calls")
    assert reply.usage.output_tokens == 6


async def test_a_missing_or_failing_rule_is_an_error_that_names_the_prompt() -> None:
    model = OfflineModel({"decide": lambda request: str(request.facts["score"])})
    with pytest.raises(ModelError, match="no rule for the prompt 'other'"):
        await model.complete(ask(prompt="other"), timeout_s=1)
    with pytest.raises(ModelError, match=r"'decide' failed \(KeyError\)") as failed:
        await model.complete(ask(prompt="decide"), timeout_s=1)
    assert not failed.value.retryable


def test_the_estimate_counts_everything_that_is_sent() -> None:
    tool = ToolSpec("search", "Find.", {"a": 1})
    call = ToolCall("c1", "search", "{}")
    bare = ModelRequest((Message("user", "x" * 40),))
    full = ModelRequest((*bare.messages, Message("assistant", "", (call,))), tools=(tool,), answer_schema={"b": 2})
    assert estimate_input_tokens(bare) == 10
    assert estimate_input_tokens(full) == -(-(40 + 8 + 11 + 8 + 8) // 4)


def test_facts_never_go_on_the_wire() -> None:
    request = ask(facts={"email": "secret@acme.example"}, answer_schema=Verdict.model_json_schema())
    assert b"secret@acme" not in encode(request, "m", Dialect())


def test_a_strict_schema_requires_everything_and_allows_no_more() -> None:
    schema = {
        "title": "Answer",
        "type": "object",
        "properties": {
            "title": {"type": "string", "title": "Title", "default": ""},
            "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
        "required": ["parts"],
        "$defs": {"Part": {"type": "object", "properties": {"default": {"type": "integer"}}}},
    }
    assert strict_schema(schema) == {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["title", "parts", "note"],
        "additionalProperties": False,
        "$defs": {
            "Part": {
                "type": "object",
                "properties": {"default": {"type": "integer"}},
                "required": ["default"],
                "additionalProperties": False,
            }
        },
    }


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error": {"code": "context_length_exceeded", "message": "your key sk-1"}}', "context_length_exceeded"),
        (b'{"error": {"type": "invalid_request_error"}}', "invalid_request_error"),
        (b'{"error": {"code": "key sk-1 is wrong"}}', ""),
        (b'{"error": "down"}', ""),
        (b"<html>", ""),
    ],
)
def test_an_error_body_gives_its_code_and_nothing_of_its_text(body: bytes, code: str) -> None:
    assert error_code(body) == code
