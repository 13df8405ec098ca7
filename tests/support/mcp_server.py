"""An MCP server over standard streams that can be told to misbehave, by itself: `python mcp_server.py [MODE]`.

MODE: `mute` answers nothing, `banner` prints before it speaks, `flood` writes without end once a tool is called.
Written against the specification, not with the library that the client uses.
"""

import json
import os
import sys
import time
from typing import Any

MODE = sys.argv[1] if len(sys.argv) > 1 else ""
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
TEXT_BLOCK = {"type": "text", "text": "a"}
COUNT = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}


def tool(name: str, *, reads: bool = False, **more: Any) -> dict[str, Any]:
    annotations = {"readOnlyHint": True} if reads else {}
    return {"name": name, "description": f"The tool {name}.", "inputSchema": TEXT, "annotations": annotations, **more}


TOOLS = [
    tool("echo", reads=True),
    tool("note"),
    tool("environment", reads=True),
    tool("hang", reads=True),
    tool("crash", reads=True),
    tool("lie", reads=True, outputSchema=COUNT),
    tool("flood", reads=True),
    tool("chatter", reads=True),
    tool("picture", reads=True),
    tool("long", reads=True),
    tool("fail", reads=True),
    tool("turn", reads=True),
    tool("structured", reads=True, outputSchema=COUNT),
]


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def texts(*texts: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text} for text in texts]}


def misbehave(name: str) -> None:
    if name == "hang":
        time.sleep(600)
    if name == "crash":
        sys.stderr.write("out of memory\n")
        os._exit(3)
    while name == "flood":
        sys.stdout.write("x" * 65_536)
    while name == "chatter":
        send({"method": "notifications/message", "params": {"level": "info", "data": "x" * 60_000}})
    if name == "turn":
        TOOLS[0]["inputSchema"] = COUNT
        TOOLS[:] = [one for one in TOOLS if one["name"] != "note"]
        send({"method": "notifications/tools/list_changed"})


def call(name: str, args: dict[str, Any]) -> dict[str, Any]:
    misbehave(name)
    special = {
        "lie": texts("three") | {"structuredContent": {"count": "three"}},
        "picture": {"content": [{"type": "image", "mimeType": "image/png", "data": "AAAA" * 1000}, TEXT_BLOCK]},
        "long": texts("y" * 100_000),
        "fail": texts("the branch is closed") | {"isError": True},
        "structured": texts('{"count": 3}') | {"structuredContent": {"count": 3}},
        "environment": texts(json.dumps(dict(os.environ))),
    }
    return special.get(name) or texts(f"{name}: {args['text']} ({os.getpid()})")


def answer(request: dict[str, Any]) -> dict[str, Any]:
    method, params = request["method"], request.get("params", {})
    if method == "initialize":
        info = {"name": "test", "version": "1"}
        capabilities = {"tools": {"listChanged": True}}
        return {"result": {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info}}
    if method == "tools/list":
        return {"result": {"tools": TOOLS}}
    if method == "tools/call":
        return {"result": call(params["name"], params["arguments"])}
    return {"error": {"code": -32601, "message": f"no method {method}"}}


def main() -> None:
    if MODE == "banner":
        print("Welcome to the test server!", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if MODE != "mute" and "id" in request:
            send({"id": request["id"], **answer(request)})


if __name__ == "__main__":
    main()
