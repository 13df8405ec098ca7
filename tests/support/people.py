"""One person who leaves something in every store, over HTTP; and a search for what is left of them."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import NullPool, create_engine, inspect

from app.agent.models import ToolMode
from app.principal import Principal, Role
from tests.support.claims import ask, signed_in
from tests.support.service import TENANT, WAIT_S, Service, lead

ADMIN = Principal(TENANT, "test", Role.ADMIN)
BOT = "handbook"
PAGE = "# Parental leave\n\nParental leave lasts fourteen weeks and is paid in full for all who work here.\n"
QUESTION = "How many weeks does parental leave last?"


@dataclass(frozen=True)
class Planted:
    """What a person is known by. `words` are texts that nobody else's data holds."""

    user_id: str = "u-zyra-7731"
    name: str = "Zyra Quellmark"
    email: str = "Zyra.Quellmark@kiesgrube.example"
    company: str = "Quellmark Werke"
    phone: str = "+49 171 5550123"
    policy: str = "HH-2024-7731001"
    claim: str = "CL-2026-7731001"
    words: tuple[str, ...] = ("blaugurke", "sumpfotter", "nebelharfe", "tintenkorn", "wolkenspat")

    @property
    def told(self) -> tuple[str, ...]:
        """Every text that must be gone, in lower case."""
        return tuple(
            text.lower()
            for text in (self.name, self.email, self.company, self.phone, self.policy, self.claim, *self.words)
        )


def path_of(person: str) -> str:
    return f"/v1/people/{quote(person, safe='')}"


async def plant(service: Service, person: Planted) -> None:
    """Something of the person in every store."""
    await _insure(service, person)
    await _treat(service, person)
    await _serve(service, person)
    await _ask_a_team(service, person)
    await _write_as_lead(service, person)
    await _talk(service, person)


async def _insure(service: Service, person: Planted) -> None:
    policy = {"number": person.policy, "product": "Health", "currency": "EUR", "starts_on": "2024-01-01"}
    claim = {"number": person.claim, "policy": person.policy, "benefit": "dental", "incurred_on": "2026-02-01"}
    member = {
        "user_id": person.user_id,
        "name": person.name,
        "email": person.email,
        "policies": [{**policy, "limits": {"dental": 100_000}}],
        "claims": [{**claim, "state": "in_review", "amount_claimed": 5_000, "note": f"broke on a {person.words[0]}"}],
    }
    put = await service.client.put("/v1/claims/members", json={"members": [member]})
    assert put.status_code == 200, put.text


async def _treat(service: Service, person: Planted) -> None:
    """A customer with an event, an outcome, a decision about what they alone are like, a reservation."""
    catalogue = {"treatments": [{"name": "email", "title": "An e-mail"}], "traits": ["hobby"]}
    assert (await service.client.put("/v1/treatments/catalogue", json=catalogue)).status_code == 200
    event = {"at": "2026-02-01T00:00:00Z", "kind": "visit", "text": f"asked for a {person.words[0]}"}
    customer = {
        "external_id": person.user_id,
        "email": person.email,
        "worth_usd": 100,
        "attributes": {"address": f"{person.company}, {person.words[1]} 3", "hobby": person.words[3]},
        "events": [event],
    }
    put = await service.client.put("/v1/treatments/customers", json=[customer])
    assert put.status_code == 200, put.text
    known = {"key": "o-1", "customer": person.user_id, "treatment": "email", "success": False}
    body = [{**known, "at": "2026-03-01T00:00:00Z"}]
    assert (await service.client.post("/v1/treatments/outcomes", json=body)).status_code == 200
    started = await service.client.post("/v1/treatments/runs", json={"all": True, "control_share": 0})
    assert started.status_code == 201, started.text
    async with asyncio.timeout(WAIT_S):
        while (await service.client.get(f"/v1/treatments/runs/{started.json()['id']}")).json()["state"] != "done":
            await asyncio.sleep(0.05)
    assert person.words[3] in str(await service.rows("treatment_answers"))
    held = {"treatment": "email", "customer": person.user_id, "note": f"likes {person.words[0]}"}
    held["day"] = f"{service.container.clock() + timedelta(days=3):%Y-%m-%d}"
    made = await service.client.post("/v1/treatments/reservations", json=held, headers={"Idempotency-Key": "held-1"})
    assert made.status_code == 201, made.text


async def _serve(service: Service, person: Planted) -> None:
    """A client whose contact the person is, with a message."""
    at = (service.container.clock() - timedelta(days=5)).isoformat()
    said = {"key": "m-1", "kind": "message", "at": at, "text": f"My {person.words[0]} is broken, that is awful!"}
    client = {"external_id": "cl-7731", "name": 'Ö "A" client', "email": person.email, "signals": [said]}
    attributes = {"contact": person.name}
    put = await service.client.put("/v1/teams/clients", json=[{**client, "attributes": attributes}])
    assert put.status_code == 200, put.text


async def _ask_a_team(service: Service, person: Planted) -> None:
    """Questions of the tenant's own people: about the person, about their company, with their address in its text."""
    word, client = person.words[0], 'Ö "A" client'
    for team, question, subject in (
        ("client_health", f"Is the client with the {word} at risk?", person.email),
        ("client_health", "Are there unhappy messages?", client),
        ("sales_intelligence", f"What do our pages say to {person.email.upper()}?", ""),
    ):
        body = {"question": question, "subject": subject}
        asked = await service.client.post(f"/v1/teams/{team}/ask", json=body)
        assert asked.status_code == 200, asked.text
        if subject == client:
            assert word in asked.text


async def _write_as_lead(service: Service, person: Planted) -> None:
    """One lead whose writes are done, one whose e-mail waits for a person's word."""
    known = {"name": person.name, "email": person.email, "company": person.company, "phone": person.phone}
    meeting = f"Could we meet next week about the {person.words[1]} plan, the Operate one, for 40 sensors?"
    first = await _lead(service, lead(**known, message=meeting, attributes={"hobby": person.words[1]}), "k-first")
    body = {"kind": "converted", "note": f"likes {person.words[1]}"}
    assert (await service.client.post(f"/v1/leads/{first}/outcome", json=body)).status_code == 201
    body = {"thumb": "up", "comment": f"said {person.words[1]}"}
    assert (await service.client.post(f"/v1/leads/{first}/feedback", json=body)).status_code == 201
    await _set_mail(service, ToolMode.APPROVE)
    message = f"What does the Operate plan cost for 40 sensors on annual billing, asks {person.words[1]}?"
    await _lead(service, lead(**known, message=message), f"from-{person.email}")
    await _set_mail(service, ToolMode.ALLOW)


async def _lead(service: Service, body: dict[str, Any], key: str) -> str:
    sent = await service.client.post("/v1/leads", json=body, headers={"Idempotency-Key": key})
    assert sent.status_code == 201, sent.text
    lead_id = str(sent.json()["lead"]["id"])
    await service.decided([lead_id])
    return lead_id


async def _set_mail(service: Service, mode: ToolMode) -> None:
    async with service.container.db.operator_transaction() as session:
        await service.container.tool_policies.set(session, ADMIN, "email_send", mode)


async def _talk(service: Service, person: Planted) -> None:
    kit = service.container.kit
    await kit.ingestor.put(TENANT, BOT, "leave", "Parental leave", PAGE, [])
    async with service.container.db.operator_transaction() as session:
        await kit.flags.set(session, ADMIN, "retrieval.boosts", True)
    await kit.flags.refresh()
    settings = {"semantic_threshold": 0.9, "open_to_users": True}
    assert (await service.client.put(f"/v1/bots/{BOT}", json=settings)).status_code == 200
    who = await signed_in(service, person.user_id)
    for word in (person.words[2], person.words[3]):
        message = {"message": f"{QUESTION} My {word} wants to know."}
        answer = await service.client.post(f"/v1/bots/{BOT}/chat", json=message, headers=who)
        assert answer.status_code == 200, answer.text
    said = {"helpful": True, "comment": f"thanks, {person.words[3]}"}
    path = f"/v1/bots/{BOT}/answers/{answer.json()['decision_id']}/feedback"
    assert (await service.client.post(path, json=said, headers=who)).status_code == 200
    streamed = {"message": f"{QUESTION} {person.words[3]}", "stream": True}
    await service.client.post(f"/v1/bots/{BOT}/chat", json=streamed, headers=who)
    await ask(service, who, f"What about my claim {person.claim}? It is the one of the {person.words[4]}.")
    await kit.assistant.settled()


async def erased_for_good(service: Service) -> None:
    """Returns when no erasure has anything left to do."""
    async with asyncio.timeout(WAIT_S):
        while await service.rows("person_erasures"):
            await asyncio.sleep(0.05)


def tables_with(url: str, texts: Iterable[str]) -> dict[str, set[str]]:
    """For each text, the tables of a database that hold it in any column, the job engine's too.

    `url` is SQLAlchemy's; on PostgreSQL with a login that no row policy holds.
    """
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        found = inspect(connection)
        places = [(schema, name) for schema in _schemas(url) for name in found.get_table_names(schema)]
        rows = {
            name: repr(connection.exec_driver_sql(f'SELECT * FROM {schema}."{name}"').all()).lower()
            for schema, name in places
        }
    assert len(rows) > 50
    return {text: {name for name, said in rows.items() if text in said} for text in texts}


def _schemas(url: str) -> tuple[str, ...]:
    return ("main",) if url.startswith("sqlite") else ("public", "dbos")


def files_with(folder: Path, texts: Iterable[str]) -> dict[str, set[str]]:
    """For each text, the files under a folder whose bytes hold it."""
    files = {path.name: path.read_bytes().lower() for path in folder.rglob("*") if path.is_file()}
    return {text: {name for name, content in files.items() if text.encode() in content} for text in texts}
