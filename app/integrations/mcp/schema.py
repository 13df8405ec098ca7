"""Arguments against a JSON Schema that another program wrote."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from app.integrations.mcp.errors import McpLied

MAX_SCHEMA_BYTES: Final = 64 << 10
Check = Callable[[Mapping[str, Any]], str]


def compiled(server: str, tool: str, schema: Mapping[str, Any]) -> Check:
    """A check that gives one sentence on the first thing that is wrong, "" where nothing is.

    References lead nowhere but into the schema itself. Raises McpLied for what is no schema, or too long a one.
    """
    from jsonschema import SchemaError
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    whose = f"The MCP server '{server}' describes the arguments of '{tool}'"
    if len(orjson.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise McpLied(f"{whose} by more than {MAX_SCHEMA_BYTES >> 10} KB of schema.", uncertain=False)
    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError:
        raise McpLied(f"{whose} by what is no JSON Schema.", uncertain=False) from None
    validator = kind(schema, registry=Registry())

    def check(args: Mapping[str, Any]) -> str:
        try:
            error = best_match(validator.iter_errors(dict(args)))
        except Unresolvable:
            raise McpLied(f"{whose} by a schema that leads nowhere.", uncertain=False) from None
        if error is None:
            return ""
        where = ".".join(str(part) for part in error.absolute_path)
        return f"{where}: {error.message[:200]}" if where else str(error.message[:200])

    return check
