"""The OpenAPI document says what really comes."""

from pydantic import TypeAdapter

from app.http.openapi import Problem


async def document(client):
    return (await client.get("/openapi.json")).json()


def operations(doc):
    for path, item in doc["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


async def test_every_operation_describes_its_errors_as_problems(stranger):
    doc = await document(stranger)
    seen = list(operations(doc))
    assert len(seen) > 8
    for _, _, operation in seen:
        assert "422" not in operation["responses"]
        content = operation["responses"]["default"]["content"]
        assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert "HTTPValidationError" not in doc["components"]["schemas"]


async def test_every_reference_leads_somewhere(stranger):
    doc = await document(stranger)

    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for child in node.values():
                yield from references(child)
        elif isinstance(node, list):
            for child in node:
                yield from references(child)

    found = set(references(doc))
    assert "#/components/schemas/Problem" in found
    for reference in found:
        target = doc
        for part in reference.removeprefix("#/").split("/"):
            assert part in target, reference
            target = target[part]


async def test_a_key_may_come_in_either_header(stranger):
    doc = await document(stranger)
    assert doc["components"]["securitySchemes"]["BearerKey"]["scheme"] == "bearer"
    assert doc["components"]["securitySchemes"]["HeaderKey"] == {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
    }
    assert doc["paths"]["/v1/items/who"]["get"]["security"] == [{"BearerKey": []}, {"HeaderKey": []}]
    assert "security" not in doc["paths"]["/healthz"]["get"]


async def test_the_idempotency_key_is_described(stranger):
    doc = await document(stranger)
    (parameter,) = doc["paths"]["/v1/items"]["post"]["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("Idempotency-Key", "header", False)


async def test_a_real_problem_is_one_of_the_described(api):
    answer = await api.post("/v1/items", json={"name": 5})
    problem = TypeAdapter(Problem).validate_python(answer.json())
    assert problem.errors[0].where == "body"


async def test_the_document_stays_the_same_when_it_is_asked_for_again(stranger):
    assert await document(stranger) == await document(stranger)
