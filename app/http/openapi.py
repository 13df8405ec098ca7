"""The OpenAPI document tells the truth about errors and keys."""

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from app.http.problems import MEDIA_TYPE

HEADER_KEY = "HeaderKey"
_OWN_SCHEMAS = ("HTTPValidationError", "ValidationError")


class FieldError(BaseModel):
    """What is wrong with one field: `in` is body, path, query, header or cookie."""

    model_config = ConfigDict(populate_by_name=True)

    where: str = Field(alias="in")
    field: str
    code: str
    message: str


class Problem(BaseModel):
    """An RFC 9457 problem: `type` is stable, `instance` is the id of the request; more members may follow."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldError] | None = None


def describe_problems(app: FastAPI) -> None:
    """Every operation's errors are problems, and a key may also come as `X-API-Key`."""
    generate: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_problems(generate())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in _OWN_SCHEMAS:
        schemas.pop(name, None)
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs"))
    schemas["Problem"] = schema
    if "securitySchemes" in components:
        components["securitySchemes"][HEADER_KEY] = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    for operation in _operations(document):
        _describe(operation)
    return document


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document.get("paths", {}).values():
        for operation in path.values():
            if isinstance(operation, dict):
                yield operation


def _describe(operation: dict[str, Any]) -> None:
    problem = {
        "description": "A problem (RFC 9457)",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = problem
    if operation.get("security"):
        operation["security"].append({HEADER_KEY: []})
