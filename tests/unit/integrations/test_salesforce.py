from collections.abc import AsyncIterator

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ConfigError, NotFound
from app.integrations.base import Contact, ContactRef
from app.integrations.errors import IntegrationError
from app.integrations.salesforce import SalesforceCrm, soql_text
from tests.conftest import StillClock
from tests.support.fakes.salesforce import _CONDITION, CLIENT_ID, CLIENT_SECRET, REQUEST_LIMIT, FakeSalesforce, unescape
from tests.support.integrations import TENANT, TENANTS, salesforce_crm

ANA = Contact("ana@rivera.example", "Ana Cruz", "Rivera SL", "+34 600 000 001", {"score": "0.8", "internal": "x"})


@pytest.fixture
async def fake(clock: StillClock) -> AsyncIterator[FakeSalesforce]:
    async with FakeSalesforce(clock=clock) as made:
        yield made


@pytest.fixture
def crm(fake: FakeSalesforce, session: aiohttp.ClientSession) -> SalesforceCrm:
    return salesforce_crm(fake, session)


async def test_a_whole_lead_is_upserted_in_one_request_after_one_login(
    fake: FakeSalesforce, crm: SalesforceCrm
) -> None:
    ref = await crm.upsert_contact(TENANT, ANA, key="k1")
    await crm.upsert_contact(TENANT, ANA, key="k2")
    assert [seen.method for seen in fake.seen] == ["POST", "PATCH", "PATCH"]
    assert fake.seen[1].json == {
        "FirstName": "Ana",
        "LastName": "Cruz",
        "Company": "Rivera SL",
        "Phone": "+34 600 000 001",
        "Score__c": "0.8",
    }
    assert ref.url == f"{fake.url}/lightning/r/Lead/{ref.id}/view"


async def test_an_expired_session_logs_in_once_more(fake: FakeSalesforce, crm: SalesforceCrm) -> None:
    await crm.upsert_contact(TENANT, ANA, key="k1")
    fake.sessions.clear()
    await crm.upsert_contact(TENANT, ANA, key="k2")
    assert fake.count("POST", "oauth2/token") == 2
    assert len(fake.leads) == 1


async def test_a_session_that_is_refused_twice_is_an_error(fake: FakeSalesforce, crm: SalesforceCrm) -> None:
    expired = [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
    for _ in range(2):
        fake.refuse_next(401, expired, where="/sobjects")
    with pytest.raises(IntegrationError, match="INVALID_SESSION_ID"):
        await crm.upsert_contact(TENANT, ANA, key="k1")
    assert fake.count("POST", "oauth2/token") == 2


async def test_wrong_credentials_are_said_so_without_being_shown(
    fake: FakeSalesforce, session: aiohttp.ClientSession
) -> None:
    crm = SalesforceCrm(session, fake.url, CLIENT_ID, "wrong-secret", TENANTS)
    with pytest.raises(IntegrationError, match="refused to log in: invalid_client") as caught:
        await crm.find_contact(TENANT, ANA.email)
    assert "wrong-secret" not in repr(vars(caught.value))


async def test_the_daily_limit_can_be_tried_again_later(fake: FakeSalesforce, crm: SalesforceCrm) -> None:
    fake.refuse_next(403, REQUEST_LIMIT, where="/query")
    with pytest.raises(IntegrationError, match="REQUEST_LIMIT_EXCEEDED") as caught:
        await crm.find_contact(TENANT, ANA.email)
    assert (caught.value.retryable, caught.value.retry_after) == (True, 60.0)
    assert fake.count("GET", "/query") == 1


async def test_a_lead_is_saved_once_although_the_answer_was_lost(fake: FakeSalesforce, crm: SalesforceCrm) -> None:
    fake.lose_next_answer("/sobjects/Lead/Email")
    ref = await crm.upsert_contact(TENANT, ANA, key="k1")
    assert list(fake.leads) == [ref.id]


@pytest.mark.parametrize("contact", [Contact(ANA.email), Contact(ANA.email, "Ana"), Contact(ANA.email, "Ana Cruz")])
async def test_a_lead_of_which_little_is_known_is_saved_once_although_the_answer_was_lost(
    fake: FakeSalesforce, crm: SalesforceCrm, contact: Contact
) -> None:
    fake.lose_next_answer("/sobjects/Lead")
    with pytest.raises(IntegrationError) as caught:
        await crm.upsert_contact(TENANT, contact, key="k1")
    assert (caught.value.retryable, caught.value.uncertain) == (True, False)
    ref = await crm.upsert_contact(TENANT, contact, key="k1")
    assert list(fake.leads) == [ref.id]


async def test_a_note_is_written_once_although_the_answer_was_lost(fake: FakeSalesforce, crm: SalesforceCrm) -> None:
    ref = await crm.upsert_contact(TENANT, ANA, key="k1")
    fake.lose_next_answer("/sobjects/Task")
    with pytest.raises(IntegrationError) as caught:
        await crm.add_note(TENANT, ref, "Asked for prices.", key="n1")
    assert caught.value.retryable
    note = await crm.add_note(TENANT, ref, "Asked for prices.", key="n1")
    assert list(fake.tasks) == [note]
    task = fake.tasks[note]
    assert (task["WhoId"], task["Description"], task["Status"]) == (ref.id, "Asked for prices.", "Completed")


async def test_a_placeholder_never_overwrites_what_somebody_typed_in(fake: FakeSalesforce, crm: SalesforceCrm) -> None:
    await crm.upsert_contact(TENANT, Contact(ANA.email), key="k1")
    [lead] = fake.leads.values()
    assert (lead["LastName"], lead["Company"]) == ("[not provided]", "[not provided]")
    lead.update(LastName="Cruz", Company="Rivera SL")
    await crm.upsert_contact(TENANT, Contact(ANA.email, phone="+34 600 000 002"), key="k2")
    await crm.upsert_contact(TENANT, Contact(ANA.email), key="k3")
    assert (lead["LastName"], lead["Company"], lead["Phone"]) == ("Cruz", "Rivera SL", "+34 600 000 002")


async def test_a_name_of_one_word_is_not_doubled_by_saving_it_again(fake: FakeSalesforce, crm: SalesforceCrm) -> None:
    for key in ("k1", "k2"):
        await crm.upsert_contact(TENANT, Contact(ANA.email, "Madonna"), key=key)
    found = await crm.find_contact(TENANT, ANA.email)
    assert found is not None
    assert found.name == "Madonna"


async def test_an_address_that_cannot_stand_in_a_path_is_saved_all_the_same(
    fake: FakeSalesforce, crm: SalesforceCrm
) -> None:
    contact = Contact("ana@rivera.inc", "Ana Cruz", "Rivera Inc")
    ref = await crm.upsert_contact(TENANT, contact, key="k1")
    assert await crm.upsert_contact(TENANT, contact, key="k2") == ref
    assert list(fake.leads) == [ref.id]


async def test_two_leads_with_one_address_are_for_a_person_to_merge(fake: FakeSalesforce, crm: SalesforceCrm) -> None:
    for _ in range(2):
        fake._insert_lead({"Email": ANA.email, "LastName": "Cruz", "Company": "Rivera SL"})
    with pytest.raises(IntegrationError, match="more than one lead") as caught:
        await crm.upsert_contact(TENANT, ANA, key="k1")
    assert not caught.value.retryable


async def test_a_next_page_elsewhere_is_not_followed(fake: FakeSalesforce, crm: SalesforceCrm) -> None:
    fake.refuse_next(200, {"records": [], "done": False, "nextRecordsUrl": "//evil.example/x"}, where="/query")
    with pytest.raises(IntegrationError, match="outside its API"):
        [record async for record in crm.contacts(TENANT)]


@pytest.mark.parametrize("lead_id", ["", "1", "x' OR Id != '", "00Q5g0000000000/../x"])
async def test_what_cannot_be_an_id_is_not_asked_for(fake: FakeSalesforce, crm: SalesforceCrm, lead_id: str) -> None:
    with pytest.raises(NotFound):
        await crm.add_note(TENANT, ContactRef(lead_id), "Hello", key="n1")
    assert fake.seen == []


async def test_a_quote_in_an_address_stays_inside_the_query(fake: FakeSalesforce, crm: SalesforceCrm) -> None:
    await crm.upsert_contact(TENANT, ANA, key="k1")
    assert await crm.find_contact(TENANT, "o'x'or'email'!='@rivera.example") is None
    await crm.upsert_contact(TENANT, Contact("o'neil@rivera.example", "Pat O'Neil", "Rivera"), key="k2")
    found = await crm.find_contact(TENANT, "o'neil@rivera.example")
    assert found is not None
    assert found.name == "Pat O'Neil"


@given(st.text())
def test_no_text_ends_its_quotes(text: str) -> None:
    parsed = _CONDITION.fullmatch(f"Email = {soql_text(text)}")
    assert parsed is not None
    assert unescape(parsed["text"]) == text


@pytest.mark.parametrize("missing", range(3))
def test_a_missing_setting_is_named(session: aiohttp.ClientSession, missing: int) -> None:
    given_settings = ["https://acme.my.salesforce.com", CLIENT_ID, CLIENT_SECRET]
    given_settings[missing] = ""
    name = ("INSTANCE_URL", "CLIENT_ID", "CLIENT_SECRET")[missing]
    with pytest.raises(ConfigError, match=f"TRELLIS_SALESFORCE_{name}"):
        SalesforceCrm(session, *given_settings, TENANTS)


def test_a_field_name_that_could_carry_a_query_is_refused(session: aiohttp.ClientSession) -> None:
    fields = {"score": "Id FROM User --"}
    with pytest.raises(ConfigError, match="API field name"):
        SalesforceCrm(session, "https://a.my.salesforce.com", CLIENT_ID, CLIENT_SECRET, TENANTS, fields=fields)
