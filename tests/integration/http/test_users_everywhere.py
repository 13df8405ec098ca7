"""An end user's token over the whole route table: whatever does not ask for users by name refuses them."""

import re

import pytest

from tests.support.service import running

OPEN_TO_USERS = {
    ("POST", "/chat"),
    ("POST", "/v1/bots/{bot}/chat"),
    ("GET", "/v1/bots/{bot}/chat/streams/{stream_id}"),
    ("DELETE", "/v1/bots/{bot}/memory"),
    ("POST", "/v1/bots/{bot}/answers/{decision_id}/feedback"),
    ("GET", "/v1/claims"),
    ("GET", "/v1/claims/balance"),
    ("GET", "/v1/claims/policies"),
    ("GET", "/v1/claims/{number}"),
    ("DELETE", "/v1/claims/memory"),
    ("POST", "/v1/claims/chat"),
    ("GET", "/v1/claims/chat/streams/{stream_id}"),
}
"""What gives a user their own. A new address is added here once somebody has looked at whose data it shows."""
WITHOUT_KEY = {("GET", "/healthz"), ("GET", "/startupz"), ("GET", "/readyz"), ("GET", "/metrics")}
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture
async def service(tmp_path):
    async with running(tmp_path, knowledge=False) as running_service:
        yield running_service


async def token(service) -> str:
    answer = await service.client.post("/v1/users/u-1/token", json={"ttl_s": 600})
    assert answer.status_code == 201, answer.text
    return answer.json()["token"]


async def test_every_operation_refuses_a_user_unless_it_is_listed_here(service):
    paths = (await service.client.get("/openapi.json")).json()["paths"]
    operations = {(method.upper(), path) for path, item in paths.items() for method in item if method in METHODS}
    assert operations >= OPEN_TO_USERS
    headers = {"Authorization": f"Bearer {await token(service)}"}
    admitted = set()
    for method, path in sorted(operations - WITHOUT_KEY):
        answer = await service.client.request(method, re.sub(r"\{[^}]+\}", "x", path), headers=headers)
        if answer.status_code != 403:
            admitted.add((method, path))
        elif "not for end users" not in answer.json()["detail"]:
            pytest.fail(f"{method} {path}: {answer.text}")
    assert admitted == OPEN_TO_USERS


async def test_the_console_takes_no_users_token(service):
    secret = await token(service)
    headers = {"Authorization": f"Bearer {secret}"}
    for path in ("/console/", "/console/decisions", "/console/flags"):
        answer = await service.client.get(path, headers=headers, follow_redirects=False)
        assert answer.status_code in (302, 303, 307, 401), path
    page = await service.client.get("/console/sign-in")
    form_token = re.search(r'name="form_token" value="([^"]+)"', page.text)
    assert form_token is not None
    form = {"key": secret, "form_token": form_token[1]}
    answer = await service.client.post("/console/sign-in", data=form, follow_redirects=False)
    assert answer.status_code not in (302, 303), "a token signs nobody in"


async def test_a_token_is_audited_without_being_kept(service):
    secret = await token(service)
    (entry,) = [row for row in await service.rows("audit_entries") if row["action"] == "user.token_issued"]
    assert entry["subject"] == "u-1"
    assert '"ttl_s":600' in entry["data"]
    for table in ("audit_entries", "idempotency_keys"):
        assert secret not in str(await service.rows(table))


async def test_a_user_makes_no_token(service):
    headers = {"Authorization": f"Bearer {await token(service)}"}
    assert (await service.client.post("/v1/users/u-2/token", headers=headers)).status_code == 403


async def test_an_email_address_is_no_users_id(service):
    answer = await service.client.post("/v1/users/a@b.example/token")
    assert answer.status_code == 422
    assert "opaque id" in answer.json()["detail"]
    answer = await service.client.post("/v1/users/u-1/token", json={"ttl_s": 3601})
    assert answer.status_code == 422
