from collections.abc import AsyncIterator

import aiohttp
import pytest

from app.errors import ConfigError
from app.integrations import hubspot
from app.integrations.base import Contact, ContactRef
from app.integrations.errors import IntegrationError
from app.integrations.hubspot import HubSpotCrm
from tests.conftest import StillClock
from tests.support.fakes.hubspot import RATE_LIMIT, TOKEN, FakeHubSpot
from tests.support.integrations import TENANT, TENANTS, hubspot_crm

ANA = Contact("ana@rivera.example", "Ana Cruz", "Rivera SL", "+34 600 000 001", {"score": "0.8", "internal": "x"})


@pytest.fixture
async def fake(clock: StillClock) -> AsyncIterator[FakeHubSpot]:
    async with FakeHubSpot(clock=clock) as made:
        yield made


@pytest.fixture
def crm(fake: FakeHubSpot, session: aiohttp.ClientSession) -> HubSpotCrm:
    return hubspot_crm(fake, session)


async def test_a_contact_is_upserted_by_its_address_with_the_mapped_properties_only(
    fake: FakeHubSpot, crm: HubSpotCrm
) -> None:
    await crm.upsert_contact(TENANT, ANA, key="k1")
    [sent] = fake.seen
    assert (sent.method, sent.path) == ("POST", "/crm/v3/objects/contacts/batch/upsert")
    [one] = sent.json["inputs"]
    assert (one["idProperty"], one["id"]) == ("email", ANA.email)
    assert one["properties"] == {
        "email": ANA.email,
        "firstname": "Ana",
        "lastname": "Cruz",
        "company": "Rivera SL",
        "phone": "+34 600 000 001",
        "trellis_score": "0.8",
    }


async def test_no_address_travels_in_a_url(fake: FakeHubSpot, crm: HubSpotCrm) -> None:
    await crm.upsert_contact(TENANT, ANA, key="k1")
    await crm.find_contact(TENANT, ANA.email)
    [record async for record in crm.contacts(TENANT, fake.clock())]
    assert not [seen for seen in fake.seen if "rivera" in seen.path + str(seen.query)]


async def test_a_contact_is_saved_once_although_the_answer_was_lost(fake: FakeHubSpot, crm: HubSpotCrm) -> None:
    fake.lose_next_answer("batch/upsert")
    ref = await crm.upsert_contact(TENANT, ANA, key="k1")
    assert list(fake.contacts) == [ref.id]


async def test_a_note_is_associated_with_its_contact_and_written_once_although_the_answer_was_lost(
    fake: FakeHubSpot, crm: HubSpotCrm
) -> None:
    ref = await crm.upsert_contact(TENANT, ANA, key="k1")
    fake.lose_next_answer("notes")
    note = await crm.add_note(TENANT, ref, "Asked for prices.", key="n1")
    assert list(fake.notes) == [note]
    assert fake.notes[note]["contact"] == ref.id
    assert fake.notes[note]["properties"]["hs_note_body"] == "Asked for prices."


async def test_an_account_without_the_note_property_is_told_what_to_create(fake: FakeHubSpot, crm: HubSpotCrm) -> None:
    fake.note_properties = frozenset({"hs_timestamp", "hs_note_body"})
    ref = await crm.upsert_contact(TENANT, ANA, key="k1")
    with pytest.raises(IntegrationError, match="need the unique text property 'trellis_key'") as caught:
        await crm.add_note(TENANT, ref, "Hello", key="n1")
    assert not caught.value.retryable


async def test_an_account_without_a_mapped_property_names_it(fake: FakeHubSpot, crm: HubSpotCrm) -> None:
    fake.custom = frozenset()
    with pytest.raises(IntegrationError, match="trellis_score"):
        await crm.upsert_contact(TENANT, ANA, key="k1")


async def test_the_policy_of_a_rate_limit_says_how_long_it_lasts(
    fake: FakeHubSpot, session: aiohttp.ClientSession
) -> None:
    fake.refuse_next(429, RATE_LIMIT | {"policyName": "TEN_SECONDLY_ROLLING"})
    with pytest.raises(IntegrationError, match="TEN_SECONDLY_ROLLING") as caught:
        await hubspot_crm(fake, session).find_contact(TENANT, ANA.email)
    assert (caught.value.retryable, caught.value.retry_after) == (True, 10.0)


async def test_a_failed_record_inside_a_batch_answer_is_an_error(fake: FakeHubSpot, crm: HubSpotCrm) -> None:
    error = {"status": "error", "category": "VALIDATION_ERROR", "message": "Email address ana@x.example is invalid"}
    fake.refuse_next(207, {"status": "COMPLETE", "results": [], "numErrors": 1, "errors": [error]})
    with pytest.raises(IntegrationError, match=r"save the contact: Email address \[email\] is invalid"):
        await crm.upsert_contact(TENANT, ANA, key="k1")


async def test_a_search_goes_on_past_the_window_of_the_vendor(
    fake: FakeHubSpot, crm: HubSpotCrm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubspot, "SEARCH_WINDOW", 200)
    fake.window = 200
    for number in range(450):
        fake._upsert({"id": f"lead{number}@x.example", "idProperty": "email", "properties": {}})
    listed = [record.email async for record in crm.contacts(TENANT, fake.clock())]
    assert len(listed) == len(set(listed)) == 450
    assert fake.count("POST", "search") == 5


async def test_a_wrong_token_is_refused_without_being_shown(fake: FakeHubSpot, session: aiohttp.ClientSession) -> None:
    crm = HubSpotCrm(session, "wrong-token", TENANTS, base_url=fake.url)
    with pytest.raises(IntegrationError, match="check its settings") as caught:
        await crm.find_contact(TENANT, ANA.email)
    assert "wrong-token" not in repr(vars(caught.value))


async def test_another_tenant_is_refused_before_anything_is_sent(fake: FakeHubSpot, crm: HubSpotCrm) -> None:
    ref = ContactRef("101")
    for attempt in (
        crm.upsert_contact("ten_other", ANA, key="k1"),
        crm.add_note("ten_other", ref, "Hello", key="n1"),
        crm.find_contact("ten_other", ANA.email),
        anext(crm.contacts("ten_other")),
    ):
        with pytest.raises(IntegrationError, match="not connected for this tenant"):
            await attempt
    assert fake.seen == []


def test_a_missing_token_is_named(session: aiohttp.ClientSession) -> None:
    with pytest.raises(ConfigError, match="TRELLIS_HUBSPOT_TOKEN"):
        HubSpotCrm(session, "", TENANTS)
    assert TOKEN not in repr(HubSpotCrm(session, TOKEN, TENANTS))
