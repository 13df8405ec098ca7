"""JSON Schema as model providers want it."""

from collections.abc import Mapping
from typing import Any

_ANNOTATIONS = ("default", "title", "examples")


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema in the form that strict structured output asks for.

    Each object names all its properties as required and allows no others; annotations go. Source: OpenAI,
    "Structured model outputs", section "Supported schemas". A field with a default is then always written by
    the model, which the pydantic type behind the schema accepts.
    """
    return {key: _strict(key, value) for key, value in schema.items() if key not in _ANNOTATIONS} | _closed(schema)


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    return {"required": list(properties), "additionalProperties": False}


def _strict(key: str, value: Any) -> Any:
    if key in ("properties", "$defs") and isinstance(value, Mapping):
        # The keys in here are names, so a property called "title" stays.
        return {name: strict_schema(inner) for name, inner in value.items()}
    if isinstance(value, Mapping):
        return strict_schema(value)
    if isinstance(value, list):
        return [strict_schema(item) if isinstance(item, Mapping) else item for item in value]
    return value
