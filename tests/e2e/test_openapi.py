"""Every operation of the API under generated requests, on a real server: no server error, and answers as described."""

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext, suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.server import Server, free_port, trellis

EXAMPLES = 40
DONE = {
    "PUT /v1/bots/{bot}",
    "POST /v1/bots/{bot}/documents",
    "GET /v1/bots/{bot}/search",
    "POST /v1/users/{user_id}/token",
}
"""Operations of which some made-up request always succeeds: their description is enough to use them."""
Seen = Counter[tuple[str, int, str]]
"""How often an operation gave a status and a type of content."""
CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance, content_type_conformance]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home, port = tmp_path_factory.mktemp("openapi"), free_port()
    with Server(home, port, "--sample", TRELLIS_LOG_LEVEL="ERROR") as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    printed = trellis(server.home, server.port, "keys", "create", "--label", "fuzz", "--role", "admin", "--tier", "pro")
    return printed.stdout.split()[1]


@pytest.mark.timeout(900)
def test_no_request_breaks_the_server(server: Server, key: str) -> None:
    api = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
    seen: Seen = Counter()
    operations = [found.ok() for found in api.get_all_operations()]
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            fuzz(operation, mode, key, seen)
    assert len(operations) >= 15
    assert {200, 201, 202, 204, 404, 422} <= {status for _, status, _ in seen}
    assert {label for label, status, _ in seen if status < 300} >= DONE
    assert server.process.poll() is None


def fuzz(operation: schemathesis.APIOperation, mode: GenerationMode, key: str, seen: Seen) -> None:
    """Requests that fit the description (positive) or do not (negative)."""

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def each(case: schemathesis.Case) -> None:
        answer = case.call(headers={"Authorization": f"Bearer {key}"}, timeout=30)
        kind = answer.headers.get("content-type", [""])[0].partition(";")[0]
        seen[operation.label, answer.status_code, kind] += 1
        case.validate_response(answer, checks=CHECKS)

    # An operation that takes nothing has no request that does not fit it.
    with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
        each()


def test_every_operation_is_described(server: Server, key: str) -> None:
    described = server.call("/openapi.json", key)["paths"]
    operations = [operation for path in described.values() for operation in path.values()]
    assert len(operations) >= 15
    assert all(operation.get("summary") for operation in operations)
