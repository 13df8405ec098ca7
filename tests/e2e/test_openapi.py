"""Every operation of the API under generated requests, on a real server: no server error, and answers as described."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.server import Server, free_port, trellis

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


@pytest.fixture
def api(server: Server) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{server.address}/openapi.json")


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_request_breaks_the_server(case: schemathesis.Case, key: str) -> None:
    case.call_and_validate(checks=CHECKS, headers={"Authorization": f"Bearer {key}"}, timeout=30)


def test_every_operation_is_described(server: Server, key: str) -> None:
    described = server.call("/openapi.json", key)["paths"]
    operations = [operation for path in described.values() for operation in path.values()]
    assert len(operations) >= 15
    assert all(operation.get("summary") for operation in operations)
    assert all("422" in op["responses"] or "parameters" not in op for op in operations)
