"""How GitHub and HubSpot are asked, and what comes of their errors."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import aiohttp
import pytest

from app.errors import ConfigError
from app.integrations import github
from app.integrations.base import Account, AccountNote, CodeItem, CodeKind, Company
from app.integrations.errors import IntegrationError
from app.integrations.registry import IntegrationSettings, build
from app.settings import CrmKind
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.context import REPO, github_host, hubspot_context
from tests.support.fakes.github import FakeGitHub, error
from tests.support.fakes.hubspot import RATE_LIMIT
from tests.support.fakes.hubspot_context import FakeHubSpotContext
from tests.support.integrations import DAY, MONDAY_NINE, TENANT, TENANTS

SINCE = MONDAY_NINE - 30 * DAY
ACCOUNT = Account(Company("501", "Rivera SL"), notes=(AccountNote("811", MONDAY_NINE, "First call."),))


def issues(count: int) -> list[CodeItem]:
    return [
        CodeItem(
            CodeKind.ISSUE, str(number + 1), f"Issue {number}", MONDAY_NINE - timedelta(hours=number), state="open"
        )
        for number in range(count)
    ]


@pytest.fixture
async def hub(clock: StillClock) -> AsyncIterator[FakeGitHub]:
    async with FakeGitHub(clock=clock) as made:
        made.add(REPO, issues(3))
        yield made


@pytest.fixture
async def crm() -> AsyncIterator[FakeHubSpotContext]:
    async with FakeHubSpotContext() as made:
        made.add(ACCOUNT)
        yield made


Asked = Callable[[], Awaitable[object]]


@pytest.fixture(params=["github", "hubspot"])
def vendor(
    request: pytest.FixtureRequest, hub: FakeGitHub, crm: FakeHubSpotContext, session: aiohttp.ClientSession
) -> tuple[FakeGitHub | FakeHubSpotContext, Asked]:
    if request.param == "github":
        return hub, lambda: github_host(hub, session).activity(TENANT, REPO, SINCE)
    return crm, lambda: hubspot_context(crm, session).account(TENANT, "501")


@pytest.mark.parametrize(
    ("status", "body", "words", "retryable"),
    [
        (401, {"message": "Bad credentials"}, "HTTP 401.*check its settings", False),
        (403, {"message": "Resource not accessible by personal access token"}, "not accessible.*HTTP 403", False),
        (429, {"message": "slow down"}, "rate limit is reached", True),
        (500, {"message": "oops"}, "failed .HTTP 500", True),
        (502, b"<html>bad gateway</html>", "failed .HTTP 502", True),
        (200, b"{not json", "not JSON", True),
        (200, {"unheard": "of"}, "shape that cannot be read|without", None),
        (200, [{"number": "?"}], "shape that cannot be read|without", None),
    ],
)
async def test_each_error_is_one_sentence_that_says_whether_it_may_pass(
    vendor: tuple[FakeGitHub | FakeHubSpotContext, Asked], status: int, body: object, words: str, retryable: bool | None
) -> None:
    fake, ask = vendor
    for _ in range(3):
        fake.refuse_next(status, body)
    with pytest.raises(IntegrationError, match=words) as caught:
        await ask()
    assert retryable in (None, caught.value.retryable)
    assert caught.value.detail.endswith(".")
    assert "\n" not in caught.value.detail
    assert "token" not in caught.value.detail.replace("access token", "")


async def test_a_lost_answer_is_asked_for_again(vendor: tuple[FakeGitHub | FakeHubSpotContext, Asked]) -> None:
    fake, ask = vendor
    fake.lose_next_answer()
    await ask()
    assert fake.seen[0].path == fake.seen[1].path


async def test_a_tenant_whose_account_it_is_not_is_refused_before_anything_is_sent(
    hub: FakeGitHub, crm: FakeHubSpotContext, session: aiohttp.ClientSession
) -> None:
    for asked in (
        github_host(hub, session).activity("rival", REPO, SINCE),
        hubspot_context(crm, session).account("rival", "501"),
    ):
        with pytest.raises(IntegrationError, match="not connected for this tenant"):
            await asked
    assert not hub.seen + crm.seen


async def test_github_is_asked_in_its_version_and_page_by_page(hub: FakeGitHub, session: aiohttp.ClientSession) -> None:
    hub.repositories.clear()
    hub.add(REPO, issues(150))
    found = await github_host(hub, session).activity(TENANT, REPO, SINCE)
    assert [item.id for item in found.items] == [str(number + 1) for number in range(150)]
    assert [seen.query.get("page") for seen in hub.seen if seen.path.endswith("issues")] == [None, "2"]
    sent = hub.seen[0]
    assert sent.headers["X-GitHub-Api-Version"] == github.VERSION
    assert sent.headers["Accept"] == "application/vnd.github+json"
    assert sent.query["since"] == "2026-01-31T09:00:00Z"


async def test_github_is_not_read_beyond_the_bound(hub: FakeGitHub, session: aiohttp.ClientSession) -> None:
    hub.repositories.clear()
    hub.most = 10
    hub.add(REPO, issues(50))
    found = await github_host(hub, session).activity(TENANT, REPO, SINCE)
    assert len(found.items) == github.MOST_PAGES * 10
    assert found.cut


async def test_the_next_pages_address_is_not_followed_only_its_query(
    hub: FakeGitHub, session: aiohttp.ClientSession
) -> None:
    elsewhere = '<https://elsewhere.example/steal?page=2>; rel="next"'
    rows = hub._sorted("issues", hub.repositories[REPO]["issues"], None)
    hub.refuse_next(200, rows, {"Link": elsewhere}, where="issues")
    await github_host(hub, session).activity(TENANT, REPO, SINCE)
    assert hub.seen[1].path == f"/repos/{REPO}/issues"
    assert hub.seen[1].query["page"] == "2"


async def test_githubs_spent_limit_says_when_it_ends(
    hub: FakeGitHub, session: aiohttp.ClientSession, clock: StillClock
) -> None:
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(clock.now.timestamp()) + 900)}
    hub.refuse_next(403, error(403, "API rate limit exceeded for user ID 1."), reset)
    with pytest.raises(IntegrationError, match="rate limit is reached") as caught:
        await github_host(hub, session).activity(TENANT, REPO, SINCE)
    assert (caught.value.retryable, caught.value.retry_after) == (True, 900.0)


async def test_githubs_secondary_limit_is_waited_for(hub: FakeGitHub, session: aiohttp.ClientSession) -> None:
    words = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
    hub.refuse_next(403, error(403, words), {"Retry-After": "0"})
    assert len((await github_host(hub, session).activity(TENANT, REPO, SINCE)).items) == 3


async def test_a_renamed_repository_is_told_and_not_followed(hub: FakeGitHub, session: aiohttp.ClientSession) -> None:
    moved = {"Location": "https://elsewhere.example/repositories/1/issues"}
    hub.refuse_next(301, {"message": "Moved Permanently"}, moved)
    with pytest.raises(IntegrationError, match="was renamed on GitHub: give the client its new name"):
        await github_host(hub, session).activity(TENANT, REPO, SINCE)
    assert len(hub.seen) == 1


async def test_a_repository_with_its_issues_switched_off_has_the_rest(
    hub: FakeGitHub, session: aiohttp.ClientSession
) -> None:
    hub.add(REPO, [CodeItem(CodeKind.RELEASE, "v1", "One", MONDAY_NINE)])
    hub.refuse_next(410, error(410, "Issues are disabled for this repo"), where="issues")
    [only] = (await github_host(hub, session).activity(TENANT, REPO, SINCE)).items
    assert only.kind is CodeKind.RELEASE


async def test_hubspots_limit_says_when_it_ends(crm: FakeHubSpotContext, session: aiohttp.ClientSession) -> None:
    crm.refuse_next(429, RATE_LIMIT | {"policyName": "DAILY"}, where="companies/501")
    with pytest.raises(IntegrationError, match="rate limit") as caught:
        await hubspot_context(crm, session).account(TENANT, "501")
    assert caught.value.retry_after == 3600.0


async def test_hubspots_associations_are_read_page_by_page(
    crm: FakeHubSpotContext, session: aiohttp.ClientSession
) -> None:
    crm.most = 2
    crm.add(replace(ACCOUNT, notes=tuple(AccountNote(str(900 + n), MONDAY_NINE, f"Note {n}.") for n in range(5))))
    found = await hubspot_context(crm, session).account(TENANT, "501")
    assert len(found.notes) == 6
    assert not found.cut


async def test_a_record_that_is_gone_from_hubspot_is_left_out(
    crm: FakeHubSpotContext, session: aiohttp.ClientSession
) -> None:
    crm.associated["501", "notes"].append("999")
    assert len((await hubspot_context(crm, session).account(TENANT, "501")).notes) == 1


async def test_a_note_comes_as_words_without_its_marks_and_scripts(
    crm: FakeHubSpotContext, session: aiohttp.ClientSession
) -> None:
    body = "<div>They said <b>no</b>.<script>alert(1)</script><br>Call&nbsp;again &amp; soon.</div>"
    crm.objects["notes"]["811"]["hs_note_body"] = body
    [note] = (await hubspot_context(crm, session).account(TENANT, "501")).notes
    assert note.text == "They said no . Call again & soon."


async def test_settings_choose_the_vendors(db: Database, session: aiohttp.ClientSession) -> None:
    assert (build(IntegrationSettings(), db, session).code.name) == "local"
    assert (build(IntegrationSettings(), db, session).accounts.name) == "local"
    settings = IntegrationSettings(
        crm=CrmKind.HUBSPOT, hubspot_token="pat-1", github_token="ghp_1", vendor_tenants=TENANTS
    )
    built = build(settings, db, session)
    assert (built.code.name, built.accounts.name) == ("github", "hubspot")
    assert "ghp_1" not in repr(settings)
    with pytest.raises(ConfigError, match="TRELLIS_VENDOR_TENANTS"):
        build(IntegrationSettings(github_token="ghp_1"), db, session)
