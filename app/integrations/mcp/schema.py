"""Arguments against a JSON Schema that another program wrote."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from app.integrations.mcp.errors import McpLied

MAX_SCHEMA_BYTES: Final = 64 << 10
Check = Callable[[Mapping[str, Any]], str]
_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_VALUES: Final = frozenset({"const", "enum", "required", "default", "examples"})
_PATTERNS: Final = frozenset({"pattern", "patternProperties"})


def compiled(server: str, tool: str, schema: Mapping[str, Any]) -> Check:
    """A check that gives one sentence on the first thing that is wrong, "" where nothing is.

    References lead nowhere but into the schema itself. Patterns are left to the server: a regular expression that
    somebody else wrote may hold this process for ever. Raises McpLied for what is no schema, or too long a one.
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
    validator = kind(_without_patterns(schema), registry=Registry())

    def check(args: Mapping[str, Any]) -> str:
        try:
            error = best_match(validator.iter_errors(dict(args)))
        except (Unresolvable, RecursionError):
            raise McpLied(f"{whose} by a schema that leads nowhere.", uncertain=False) from None
        if error is None:
            return ""
        where = ".".join(str(part) for part in error.absolute_path)
        return f"{where}: {error.message[:200]}" if where else str(error.message[:200])

    return check


def _without_patterns(schema: Mapping[str, Any]) -> Any:
    """Where properties are told by patterns, nothing is said of additional ones: which these are, the patterns tell."""
    also = {"additionalProperties"} if "patternProperties" in orjson.dumps(schema).decode() else set()
    return without(schema, (_PATTERNS | also).__contains__)


def without(schema: Any, drop: Callable[[str], bool]) -> Any:
    """A JSON Schema without these keywords, at any depth; a property that has the name of one stays."""
    if isinstance(schema, list):
        return [without(one, drop) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept = {name: value for name, value in schema.items() if not drop(name)}
    return {name: _inner(name, value, drop) for name, value in kept.items()}


def _inner(keyword: str, value: Any, drop: Callable[[str], bool]) -> Any:
    if keyword in _VALUES:
        return value
    if keyword in _NAMED and isinstance(value, Mapping):
        return {name: without(one, drop) for name, one in value.items()}
    return without(value, drop)
