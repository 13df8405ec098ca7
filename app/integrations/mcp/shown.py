"""What of a mounted tool's own words a model is shown: who runs the server wrote them, and is to give no orders."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from app.governance.injection import suspicious
from app.integrations.mcp.results import RemoteTool
from app.integrations.mcp.schema import MAX_SCHEMA_BYTES, without

ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}
_WORDS: Final = frozenset({"description", "title", "$comment", "examples", "default"})


def shown_description(tool: RemoteTool) -> str:
    """The description on one line; "" where it reads like orders to the agent."""
    said = " ".join(tool.description.split())
    return "" if gives_orders(tool.description) else said


def shown_schema(tool: RemoteTool) -> Mapping[str, Any]:
    """The schema of the arguments; without its words where these read like orders, any object where it is too long."""
    schema = tool.input_schema
    for shorter in (schema, without(schema, _WORDS.__contains__)):
        text = orjson.dumps(shorter)
        if len(text) <= MAX_SCHEMA_BYTES and not gives_orders(text.decode()):
            return shorter
    return ANY_OBJECT


def gives_orders(text: str) -> bool:
    """As `suspicious`, but that a tool's description says when it is to be called is its purpose."""
    return any(finding.rule != "tool" for finding in suspicious(text))
