"""Members of an insurer for tests: put in over the API, signed in, and asking."""

from typing import Any

import httpx2

from app.principal import Principal, Role
from tests.support.service import TENANT, Service


async def load_sample(service: Service) -> None:
    sample = service.container.runtimes["claims"].load_sample
    assert sample is not None
    await sample(Principal(TENANT, "test", Role.ADMIN))


async def signed_in(service: Service, user_id: str, key: str | None = None) -> dict[str, str]:
    """The headers of a user of the tenant of `key` (an API key; the service's own where None)."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = await service.client.post(f"/v1/users/{user_id}/token", headers=headers)
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


async def ask(service: Service, who: dict[str, str], message: str) -> dict[str, Any]:
    """The answer's document."""
    answer = await chat(service, who, message)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def chat(service: Service, who: dict[str, str], message: str) -> httpx2.Response:
    return await service.client.post("/v1/claims/chat", json={"message": message}, headers=who)


def a_member(user_id: str, mark: int, **more: Any) -> dict[str, Any]:
    """A member with one policy and two claims, whose numbers, amounts and words hold `mark` (five digits, not 0)."""
    policy = f"HH-2024-{mark}01"
    claim = {"policy": policy, "benefit": "dental", "incurred_on": "2026-02-01", "note": f"note-{mark}"}
    return {
        "user_id": user_id,
        "name": f"name-{mark}",
        "email": f"mail-{mark}@members.example",
        "policies": [
            {
                "number": policy,
                "product": f"product-{mark}",
                "currency": "EUR",
                "starts_on": "2024-01-01",
                "limits": {"dental": mark * 1000, "optical": mark * 100},
            }
        ],
        "claims": [
            {**claim, "number": f"CL-2026-{mark}01", "state": "paid", "amount_claimed": mark, "amount_paid": mark},
            {**claim, "number": f"CL-2026-{mark}02", "state": "in_review", "amount_claimed": mark * 10},
        ],
    } | more
