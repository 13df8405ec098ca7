"""What another program's tool gives back, and the schema it is asked by."""

import pytest

from app.integrations.mcp.errors import McpLied
from app.integrations.mcp.results import RemoteTool, bounded, described_bytes
from app.integrations.mcp.schema import compiled


def test_a_result_is_cut_and_says_so():
    assert bounded("abcdef", None, 4).text == "abcd\n[cut: 2 characters more]"
    large = bounded("", {"rows": ["x"] * 50}, 100)
    assert (large.data, large.text) == (None, "[structured data of 210 bytes left out]\n")


def test_a_text_that_only_repeats_the_data_is_left_out():
    assert bounded('{"count": 3}', {"count": 3}, 100).text == ""
    assert bounded("three of them", {"count": 3}, 100).text == "three of them"


def test_bytes_are_described():
    assert described_bytes("image", "image/png", 4000) == "[image, image/png, 3000 bytes, not passed on]"


def test_arguments_are_held_to_the_schema():
    check = compiled("desk", "find", {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    assert check({"n": 1}) == ""
    assert check({"n": "one"}) == "n: 'one' is not of type 'integer'"
    assert check({}) == "'n' is a required property"


@pytest.mark.parametrize(
    "schema",
    [{"type": "thing"}, {"enum": ["x" * 70_000]}, {"$ref": "https://elsewhere.example/schema.json"}],
    ids=["no schema", "too long", "leads elsewhere"],
)
def test_a_schema_that_cannot_be_used_is_the_servers_fault(schema):
    with pytest.raises(McpLied):
        compiled("desk", "find", schema)({})


def test_a_tool_is_another_one_once_it_takes_something_else():
    tool = RemoteTool("find", "Finds.", {"type": "object"}, None, read_only=True)
    assert tool.takes_as(RemoteTool("find", "Finds more.", {"type": "object"}, None, read_only=True))
    assert not tool.takes_as(RemoteTool("find", "Finds.", {"type": "object"}, None, read_only=False))
