from pathlib import Path
from typing import Any

import aiohttp
import pytest

from app.errors import ConfigError
from app.integrations.registry import IntegrationSettings, build
from app.settings import CalendarKind, CrmKind, MailerKind
from app.storage.db import Database
from tests.support.fakes.google_calendar import FakeGoogle
from tests.support.integrations import TENANTS

SECRETS = ("pat-secret", "sf-secret", "SG.secret")


def whole(tmp_path: Path, fake: FakeGoogle) -> dict[str, Any]:
    key_file = tmp_path / "account.json"
    key_file.write_text(fake.key_file())
    return {
        "calendar": CalendarKind.GOOGLE,
        "mailer": MailerKind.SENDGRID,
        "vendor_tenants": TENANTS,
        "hubspot_token": SECRETS[0],
        "salesforce_instance_url": "https://acme.my.salesforce.com",
        "salesforce_client_id": "client",
        "salesforce_client_secret": SECRETS[1],
        "google_calendar_id": "c@acme.example",
        "google_service_account_file": key_file,
        "sendgrid_key": SECRETS[2],
        "mail_from": "sales@acme.example",
    }


async def test_the_default_is_all_local_and_needs_nothing(db: Database, session: aiohttp.ClientSession) -> None:
    built = build(IntegrationSettings(), db, session)
    assert [part.name for part in (built.crm, built.calendar, built.mailer)] == ["local"] * 3


@pytest.mark.parametrize("crm", [CrmKind.HUBSPOT, CrmKind.SALESFORCE])
async def test_what_is_chosen_is_built(
    db: Database, session: aiohttp.ClientSession, tmp_path: Path, crm: CrmKind
) -> None:
    async with FakeGoogle() as fake:
        built = build(IntegrationSettings(crm=crm, **whole(tmp_path, fake)), db, session)
    assert [part.name for part in (built.crm, built.calendar, built.mailer)] == [crm, "google", "sendgrid"]
    assert [part.idempotent for part in (built.crm, built.calendar, built.mailer)] == [True, True, False]


@pytest.mark.parametrize(
    ("crm", "missing", "named"),
    [
        (CrmKind.HUBSPOT, {"hubspot_token": ""}, "TRELLIS_HUBSPOT_TOKEN"),
        (CrmKind.SALESFORCE, {"salesforce_client_secret": ""}, "TRELLIS_SALESFORCE_CLIENT_SECRET"),
        (CrmKind.LOCAL, {"google_service_account_file": None}, "TRELLIS_GOOGLE_SERVICE_ACCOUNT_FILE"),
        (CrmKind.LOCAL, {"google_service_account_file": Path("/nowhere/key.json")}, "cannot be read"),
        (CrmKind.LOCAL, {"sendgrid_key": ""}, "TRELLIS_SENDGRID_KEY"),
        (CrmKind.LOCAL, {"vendor_tenants": frozenset()}, "TRELLIS_VENDOR_TENANTS"),
    ],
)
async def test_what_a_chosen_vendor_lacks_is_named_before_anything_starts(
    db: Database, session: aiohttp.ClientSession, tmp_path: Path, crm: CrmKind, missing: dict[str, Any], named: str
) -> None:
    async with FakeGoogle() as fake:
        settings = IntegrationSettings(crm=crm, **(whole(tmp_path, fake) | missing))
    with pytest.raises(ConfigError, match=named):
        build(settings, db, session)


async def test_the_settings_do_not_show_their_secrets(tmp_path: Path) -> None:
    async with FakeGoogle() as fake:
        shown = repr(IntegrationSettings(**whole(tmp_path, fake)))
    assert not [secret for secret in SECRETS if secret in shown]
