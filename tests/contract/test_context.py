"""What every host of code and every account context must do: rows of our own, and the vendors' clients over fakes."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from app.errors import InvalidInput, NotFound
from app.integrations.base import (
    Account,
    AccountContext,
    AccountNote,
    CodeHost,
    CodeItem,
    CodeKind,
    Company,
    Deal,
    Ticket,
)
from app.integrations.hubspot_context import NEWEST
from app.integrations.wire import MOST_TEXT, MOST_TITLE
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.context import REPO, accounts_over, code_over
from tests.support.integrations import DAY, MONDAY_NINE, TENANT

NOW = MONDAY_NINE
SINCE = NOW - 30 * DAY
LONG = "x" * 5000
FRESH = (
    CodeItem(CodeKind.RELEASE, "v2", "Two", NOW - DAY, "mira", text="Faster."),
    CodeItem(CodeKind.COMMIT, "c" * 40, "Mend the gate", NOW - 2 * DAY, "mira", text="It leaked."),
    CodeItem(CodeKind.PULL, "7", "Gate", NOW - 3 * DAY, "mira", "merged", NOW - 2 * DAY, ("bug",), "Closes 5."),
    CodeItem(CodeKind.PULL, "8", "Door", NOW - 4 * DAY, "", "open"),
    CodeItem(CodeKind.ISSUE, "5", "The gate leaks", NOW - 9 * DAY, "ana", "open", None, ("bug", "urgent"), "Help"),
    CodeItem(CodeKind.ISSUE, "2", "Old, closed lately", NOW - 200 * DAY, "ana", "closed", NOW - 5 * DAY),
)
STALE = (
    CodeItem(CodeKind.ISSUE, "1", "Old", NOW - 200 * DAY, "ana", "closed", NOW - 190 * DAY),
    CodeItem(CodeKind.COMMIT, "d" * 40, "Old", NOW - 60 * DAY, "mira"),
    CodeItem(CodeKind.RELEASE, "v1", "One", NOW - 50 * DAY, "mira"),
    CodeItem(CodeKind.PULL, "3", "Old", NOW - 90 * DAY, "mira", "closed", NOW - 80 * DAY),
)
ACCOUNT = Account(
    Company("501", "Rivera SL", "rivera.example", "RETAIL", "Spain", "customer"),
    (
        Deal("72", "Renewal", "contractsent", NOW - 5 * DAY, "48000", "EUR", NOW + 20 * DAY),
        Deal("71", "Pilot", "closedwon", NOW - 300 * DAY, "9000", "EUR", NOW - 280 * DAY, closed=True, won=True),
    ),
    (
        Ticket("92", "Alarms are late", NOW - 3 * DAY, None, "urgent", "Half an hour."),
        Ticket("91", "A question", NOW - 40 * DAY, NOW - 39 * DAY, "low"),
    ),
    (AccountNote("812", NOW - DAY, "They are angry."), AccountNote("811", NOW - 90 * DAY, "First call.")),
)


@pytest.fixture(params=["local", "github"])
async def host(request: pytest.FixtureRequest, db: Database, clock: StillClock) -> AsyncIterator[CodeHost]:
    async with code_over(request.param, db, clock, (*STALE, *FRESH)) as made:
        yield made


@pytest.fixture(params=["local", "hubspot"])
async def accounts(request: pytest.FixtureRequest, db: Database) -> AsyncIterator[AccountContext]:
    async with accounts_over(request.param, db, ACCOUNT) as made:
        yield made


async def test_what_changed_lately_in_a_repository_comes_newest_first_and_whole(host: CodeHost) -> None:
    found = await host.activity(TENANT, REPO, SINCE)
    assert (found.repository, found.cut) == (REPO, False)
    assert found.items == FRESH


async def test_a_repository_where_nothing_happened_has_no_activity(host: CodeHost) -> None:
    assert (await host.activity(TENANT, REPO, NOW + DAY)).items == ()


async def test_a_repository_that_is_not_there_is_named(host: CodeHost) -> None:
    with pytest.raises(NotFound, match="no repository 'acme/none'"):
        await host.activity(TENANT, "acme/none", SINCE)


@pytest.mark.parametrize("name", ["", "acme", "acme/", "acme/..", "acme/shop/issues", "a b/c", "acme/shop?x=1"])
async def test_what_is_not_a_repositorys_name_is_refused(host: CodeHost, name: str) -> None:
    with pytest.raises(InvalidInput, match="not a repository"):
        await host.activity(TENANT, name, SINCE)


@pytest.mark.parametrize("kind", ["local", "hubspot"])
async def test_a_company_comes_with_its_deals_tickets_and_notes(kind: str, db: Database) -> None:
    async with accounts_over(kind, db, ACCOUNT) as accounts:
        assert await accounts.account(TENANT, "501") == ACCOUNT


async def test_a_company_that_is_not_there_is_named(accounts: AccountContext) -> None:
    with pytest.raises(NotFound, match="no company '999'"):
        await accounts.account(TENANT, "999")


@pytest.mark.parametrize("company", ["", "5 01", "../contacts/1", "x" * 129])
async def test_what_cannot_be_a_companys_id_is_refused(accounts: AccountContext, company: str) -> None:
    with pytest.raises(InvalidInput, match="company's id"):
        await accounts.account(TENANT, company)


@pytest.mark.parametrize("kind", ["local", "hubspot"])
async def test_of_many_notes_the_newest_come_and_that_there_are_more(kind: str, db: Database) -> None:
    notes = tuple(
        AccountNote(str(1000 - back), NOW - timedelta(hours=back), f"Note {back}.") for back in range(NEWEST + 5)
    )
    async with accounts_over(kind, db, replace(ACCOUNT, notes=notes)) as accounts:
        found = await accounts.account(TENANT, "501")
    assert found.notes == notes[:NEWEST]
    assert found.cut


async def test_what_a_vendor_sends_is_cut_to_its_bounds(db: Database, clock: StillClock) -> None:
    issue = CodeItem(CodeKind.ISSUE, "5", LONG, NOW - DAY, "ana", "open", None, (LONG,), LONG)
    async with code_over("github", db, clock, [issue]) as host:
        [found] = (await host.activity(TENANT, REPO, SINCE)).items
    assert (len(found.title), len(found.text), len(found.labels[0])) == (MOST_TITLE, MOST_TEXT, MOST_TITLE)
    long = replace(ACCOUNT, notes=(AccountNote("1", NOW, LONG),))
    async with accounts_over("hubspot", db, long) as accounts:
        assert len((await accounts.account(TENANT, "501")).notes[0].text) == MOST_TEXT
