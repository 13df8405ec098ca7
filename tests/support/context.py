"""Hosts of code and accounts over their backends (rows, or a vendor's fake), with the same things in each."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

import aiohttp

from app.clock import Clock
from app.integrations.base import Account, AccountContext, CodeHost, CodeItem
from app.integrations.github import GitHub
from app.integrations.hubspot_context import HubSpotContext
from app.integrations.local_context import (
    COMPANY,
    DEAL,
    NOTE,
    REPOSITORY,
    TICKET,
    LocalAccountContext,
    LocalCodeHost,
    put_record,
)
from app.storage.db import Database
from tests.support.fakes import github, hubspot
from tests.support.fakes.github import FakeGitHub
from tests.support.fakes.hubspot_context import FakeHubSpotContext
from tests.support.integrations import QUICK, TENANT, TENANTS

REPO = "acme/shop"


def github_host(fake: FakeGitHub, session: aiohttp.ClientSession, token: str = github.TOKEN) -> GitHub:
    return GitHub(session, token, TENANTS, base_url=fake.url, limits=QUICK, clock=fake.clock)


def hubspot_context(
    fake: FakeHubSpotContext, session: aiohttp.ClientSession, token: str = hubspot.TOKEN
) -> HubSpotContext:
    return HubSpotContext(session, token, TENANTS, base_url=fake.url, limits=QUICK)


@asynccontextmanager
async def code_over(kind: str, db: Database, clock: Clock, items: Sequence[CodeItem]) -> AsyncIterator[CodeHost]:
    """A host that has `REPO` with these items."""
    if kind == "local":
        async with db.operator_transaction() as session:
            await put_record(session, TENANT, REPO, REPOSITORY, REPO, clock(), {})
            for item in items:
                await put_record(session, TENANT, REPO, item.kind, item.id, item.at, _rest(item, "id", "kind", "at"))
        yield LocalCodeHost(db)
        return
    async with FakeGitHub(clock=clock) as fake, aiohttp.ClientSession() as http:
        fake.add(REPO, items)
        yield github_host(fake, http)


@asynccontextmanager
async def accounts_over(kind: str, db: Database, account: Account) -> AsyncIterator[AccountContext]:
    if kind == "local":
        async with db.operator_transaction() as session:
            await _put_account(session, account)
        yield LocalAccountContext(db)
        return
    async with FakeHubSpotContext() as fake, aiohttp.ClientSession() as http:
        fake.add(account)
        yield hubspot_context(fake, http)


async def _put_account(session: Any, account: Account) -> None:
    place = account.company.id
    now = max(one.at for one in account.notes)
    await put_record(session, TENANT, place, COMPANY, place, now, _rest(account.company, "id"))
    for deal in account.deals:
        await put_record(session, TENANT, place, DEAL, deal.id, deal.opened_at, _rest(deal, "id", "opened_at"))
    for ticket in account.tickets:
        rest = _rest(ticket, "id", "opened_at")
        await put_record(session, TENANT, place, TICKET, ticket.id, ticket.opened_at, rest)
    for note in account.notes:
        await put_record(session, TENANT, place, NOTE, note.id, note.at, _rest(note, "id", "at"))


def _rest(value: Any, *beside: str) -> dict[str, Any]:
    """The fields of a dataclass that a record's document holds."""
    fields = {name: one for name, one in asdict(value).items() if name not in beside and one is not None}
    return {name: one.isoformat() if isinstance(one, datetime) else one for name, one in fields.items()}
