"""Two tenants that name their bots, users and documents alike, and words that each of them alone has."""

import asyncio
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx2
import orjson

from tests.support.service import Service

BOTS = ("support", "sales")
USERS = ("u-1", "u-2")
_NUMBER = count(1)
_WAIT_S = 60.0
_CANARY = re.compile(r"\bzq[a-z]{10}\b")


def parrot(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A model that says every one of the words that it was shown: whatever reaches it, reaches the reader."""
    shown = _CANARY.findall("\n".join(message["content"] or "" for message in body["messages"]))
    said = f"A sensor costs four euro fifty a month [1]. Words: {' '.join(dict.fromkeys(shown))}"
    return {"role": "assistant", "content": said, "refusal": None}


def canaries(seed: int) -> Iterator[str]:
    """Words that no text holds by chance, the same ones for a seed."""
    chance = random.Random(seed)
    while True:
        yield "zq" + "".join(chance.choice("aeiou") + chance.choice("bdfgklmnprstvz") for _ in range(5))


@dataclass
class Someone:
    """A user of a tenant.

    `secret` is a word that this user alone says; `seen` is every answer that they got, by the bot it is about ("" for
    none).
    """

    service: Service
    tenant: "Tenant"
    user_id: str
    secret: str
    headers: Mapping[str, str]
    seen: list[tuple[str, str]] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    decisions: list[tuple[str, str]] = field(default_factory=list)

    async def call(self, bot: str, method: str, path: str, **sent: Any) -> httpx2.Response:
        sent["headers"] = {**self.headers, **sent.get("headers", {})}
        answer = await self.service.client.request(method, path, **sent)
        assert answer.status_code < 500, answer.text
        self.seen.append((bot, answer.text))
        return answer


@dataclass
class Tenant:
    """`facts`: the word that a bot's documents alone hold. `seen` is what an admin's key was answered, by bot."""

    service: Service
    name: str
    headers: Mapping[str, str]
    facts: Mapping[str, str]
    users: list[Someone] = field(default_factory=list)
    documents: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)

    async def call(self, bot: str, method: str, path: str, **sent: Any) -> httpx2.Response:
        answer = await self.service.client.request(method, path, headers=self.headers, **sent)
        assert answer.status_code < 500, answer.text
        self.seen.append((bot, answer.text))
        return answer

    async def upload(self, bot: str, more: str = "") -> None:
        """The bot's page, under the slug that every bot of every tenant uses, until it is ready."""
        fact = self.facts[bot]
        text = f"# Prices\n\nA sensor costs four euro fifty a month, says {fact}.\n\n## Refund\n\n{fact} pays.{more}\n"
        body = {"slug": "prices", "title": "Prices", "text": text}
        accepted = (await self.call(bot, "POST", f"/v1/bots/{bot}/documents", json=body)).json()
        self.documents[bot], self.jobs[bot] = accepted["document_id"], accepted["job_id"] or self.jobs[bot]
        async with asyncio.timeout(_WAIT_S):
            while True:
                document = await self.call(bot, "GET", f"/v1/bots/{bot}/documents/{accepted['document_id']}")
                if document.json()["status"] == "ready":
                    return
                assert document.json()["status"] != "failed", document.text
                await asyncio.sleep(0.02)


async def two_tenants(service: Service) -> list[Tenant]:
    """New ones, each with two bots that answer by meaning too, a page for each, and two users."""
    number = next(_NUMBER)
    words = canaries(number)
    return [await _tenant(service, f"house-{number}-{side}", words) for side in ("a", "b")]


async def _tenant(service: Service, name: str, words: Iterator[str]) -> Tenant:
    headers = {"Authorization": f"Bearer {await service.other_tenant(name)}"}
    tenant = Tenant(service, name, headers, {bot: next(words) for bot in BOTS})
    for bot in BOTS:
        settings = {"semantic_threshold": 0.5, "needs_evidence": False, "open_to_users": True}
        assert (await tenant.call(bot, "PUT", f"/v1/bots/{bot}", json=settings)).status_code == 200
        await tenant.upload(bot)
    for user_id in USERS:
        signed_in = await service.client.post(f"/v1/users/{user_id}/token", headers=headers)
        token = {"Authorization": f"Bearer {signed_in.json()['token']}"}
        tenant.users.append(Someone(service, tenant, user_id, next(words), token))
    return tenant


def events(text: str) -> list[tuple[str, str, Any]]:
    """Each event of a stream: its id, its name and its document."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith((":", "retry")))
        if fields:
            found.append((fields["id"], fields["event"], orjson.loads(fields["data"])))
    return found
