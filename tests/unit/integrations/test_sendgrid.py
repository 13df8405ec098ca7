from collections.abc import AsyncIterator

import aiohttp
import pytest

from app.errors import ConfigError
from app.integrations.base import Mail
from app.integrations.errors import IntegrationError
from app.integrations.sendgrid import SendGridMailer
from tests.conftest import StillClock
from tests.support.fakes.sendgrid import RATE_LIMIT, SENDER, TOKEN, FakeSendGrid
from tests.support.integrations import TENANT, TENANTS, sendgrid_mailer

MAIL = Mail("ana@rivera.example", "Your question", "Hello Ana", "sales@lumenridge.example", {"X-Lead": "lead_1"})


@pytest.fixture
async def fake() -> AsyncIterator[FakeSendGrid]:
    async with FakeSendGrid() as made:
        yield made


@pytest.fixture
def mailer(fake: FakeSendGrid, session: aiohttp.ClientSession, clock: StillClock) -> SendGridMailer:
    return sendgrid_mailer(fake, session, clock)


async def test_a_mail_carries_its_key_and_its_id_is_the_vendors(fake: FakeSendGrid, mailer: SendGridMailer) -> None:
    sent = await mailer.send(TENANT, MAIL, key="m1")
    assert sent.id == "14c5d75ce93.dfd.64b469-1"
    assert fake.sent == [
        {
            "personalizations": [{"to": [{"email": MAIL.to}], "custom_args": {"trellis_key": "m1"}}],
            "from": {"email": SENDER},
            "reply_to": {"email": MAIL.reply_to},
            "subject": MAIL.subject,
            "content": [{"type": "text/plain", "value": MAIL.body}],
            "headers": {"X-Lead": "lead_1"},
        }
    ]


async def test_a_mail_whose_answer_was_lost_is_left_to_a_person(fake: FakeSendGrid, mailer: SendGridMailer) -> None:
    fake.lose_next_answer()
    with pytest.raises(IntegrationError, match="look there before trying again") as caught:
        await mailer.send(TENANT, MAIL, key="m1")
    assert (caught.value.retryable, caught.value.uncertain) == (False, True)
    assert len(fake.sent) == 1


async def test_a_failure_of_the_vendor_does_not_send_twice(fake: FakeSendGrid, mailer: SendGridMailer) -> None:
    fake.refuse_next(500, {"errors": [{"message": "Internal Server Error", "field": None}]})
    with pytest.raises(IntegrationError) as caught:
        await mailer.send(TENANT, MAIL, key="m1")
    assert caught.value.uncertain
    assert len(fake.seen) == 1


async def test_a_rate_limit_ends_when_the_vendor_says(
    fake: FakeSendGrid, mailer: SendGridMailer, clock: StillClock
) -> None:
    reset = str(int(clock().timestamp()) + 42)
    fake.refuse_next(429, RATE_LIMIT, {"X-RateLimit-Reset": reset, "X-RateLimit-Remaining": "0"})
    with pytest.raises(IntegrationError, match="too many requests") as caught:
        await mailer.send(TENANT, MAIL, key="m1")
    assert (caught.value.retryable, caught.value.uncertain, caught.value.retry_after) == (True, False, 42.0)


async def test_a_rate_limit_that_is_over_is_tried_again(
    fake: FakeSendGrid, mailer: SendGridMailer, clock: StillClock
) -> None:
    fake.refuse_next(429, RATE_LIMIT, {"X-RateLimit-Reset": str(int(clock().timestamp()) - 1)})
    assert (await mailer.send(TENANT, MAIL, key="m1")).id
    assert len(fake.sent) == 1


async def test_a_refusal_names_the_field(fake: FakeSendGrid, session: aiohttp.ClientSession) -> None:
    mailer = SendGridMailer(session, TOKEN, "other@lumenridge.example", TENANTS, base_url=fake.url)
    with pytest.raises(IntegrationError, match=r"from: The from address.*\(HTTP 403\)\.$") as caught:
        await mailer.send(TENANT, MAIL, key="m1")
    assert (caught.value.retryable, caught.value.uncertain) == (False, False)


async def test_a_wrong_key_is_said_so_without_being_shown(fake: FakeSendGrid, session: aiohttp.ClientSession) -> None:
    mailer = SendGridMailer(session, "SG.wrong", SENDER, TENANTS, base_url=fake.url)
    with pytest.raises(IntegrationError, match="check its settings") as caught:
        await mailer.send(TENANT, MAIL, key="m1")
    assert "SG.wrong" not in repr(vars(caught.value))


async def test_another_tenant_is_refused_before_anything_is_sent(fake: FakeSendGrid, mailer: SendGridMailer) -> None:
    with pytest.raises(IntegrationError, match="not connected for this tenant"):
        await mailer.send("ten_other", MAIL, key="m1")
    assert fake.seen == []


@pytest.mark.parametrize(("token", "sender", "named"), [("", SENDER, "SENDGRID_KEY"), (TOKEN, "", "MAIL_FROM")])
def test_a_missing_setting_is_named(session: aiohttp.ClientSession, token: str, sender: str, named: str) -> None:
    with pytest.raises(ConfigError, match=f"TRELLIS_{named}"):
        SendGridMailer(session, token, sender, TENANTS)
