"""Each integration over its backend (the database, or a vendor's fake), ready to be called."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp

from app.clock import Clock
from app.integrations.base import Calendar, Crm, Mailer, Slot
from app.integrations.google_calendar import GoogleCalendar
from app.integrations.hours import BusinessHours
from app.integrations.hubspot import HubSpotCrm
from app.integrations.local import LocalCalendar, LocalCrm, LocalOutbox
from app.integrations.salesforce import SalesforceCrm
from app.integrations.sendgrid import SendGridMailer
from app.integrations.vendor_http import Limits
from app.storage.db import Database
from tests.support.fakes import google_calendar, hubspot, salesforce, sendgrid
from tests.support.fakes.google_calendar import FakeGoogle
from tests.support.fakes.hubspot import FakeHubSpot
from tests.support.fakes.salesforce import FakeSalesforce
from tests.support.fakes.sendgrid import FakeSendGrid

TENANT = "ten_lumenridge"
TENANTS = frozenset({TENANT})
QUICK = Limits(request_s=2.0, deadline_s=5.0, attempts=3, pause_s=0.001, longest_pause_s=0.002)
MONDAY_NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def slot(day: int = 0, hour: int = 10, minute: int = 0, minutes: int = 30) -> Slot:
    """A slot `day` days after Monday, 2 March 2026, in UTC."""
    start = MONDAY_NINE.replace(hour=hour, minute=minute) + timedelta(days=day)
    return Slot(start, start + timedelta(minutes=minutes))


def hubspot_crm(fake: FakeHubSpot, session: aiohttp.ClientSession, limits: Limits = QUICK) -> HubSpotCrm:
    fields = {"score": "trellis_score"}
    return HubSpotCrm(
        session, hubspot.TOKEN, TENANTS, fields=fields, base_url=fake.url, limits=limits, clock=fake.clock
    )


def salesforce_crm(fake: FakeSalesforce, session: aiohttp.ClientSession, limits: Limits = QUICK) -> SalesforceCrm:
    credentials = (salesforce.CLIENT_ID, salesforce.CLIENT_SECRET)
    fields = {"score": "Score__c"}
    return SalesforceCrm(session, fake.url, *credentials, TENANTS, fields=fields, limits=limits, clock=fake.clock)


def google(
    fake: FakeGoogle,
    session: aiohttp.ClientSession,
    *,
    subject: str | None = google_calendar.SUBJECT,
    calendar_id: str = google_calendar.CALENDAR_ID,
    hours: BusinessHours | None = None,
) -> GoogleCalendar:
    return GoogleCalendar(
        session,
        fake.key_file(),
        calendar_id,
        TENANTS,
        subject=subject,
        hours=hours,
        base_url=f"{fake.url}/calendar/v3",
        limits=QUICK,
        clock=fake.clock,
    )


def sendgrid_mailer(fake: FakeSendGrid, session: aiohttp.ClientSession, clock: Clock) -> SendGridMailer:
    return SendGridMailer(
        session, sendgrid.TOKEN, sendgrid.SENDER, TENANTS, base_url=fake.url, limits=QUICK, clock=clock
    )


@asynccontextmanager
async def crm_over(kind: str, db: Database, clock: Clock) -> AsyncIterator[Crm]:
    async with aiohttp.ClientSession() as session:
        if kind == "local":
            yield LocalCrm(db, clock)
        elif kind == "hubspot":
            async with FakeHubSpot(clock=clock) as fake:
                yield hubspot_crm(fake, session)
        else:
            async with FakeSalesforce(clock=clock, page=100) as fake_salesforce:
                yield salesforce_crm(fake_salesforce, session)


@asynccontextmanager
async def calendar_over(kind: str, db: Database, clock: Clock) -> AsyncIterator[Calendar]:
    if kind == "local":
        yield LocalCalendar(db, clock)
        return
    async with aiohttp.ClientSession() as session, FakeGoogle(clock=clock) as fake:
        yield google(fake, session)


@asynccontextmanager
async def mailer_over(kind: str, db: Database, clock: Clock) -> AsyncIterator[Mailer]:
    if kind == "local":
        yield LocalOutbox(db, clock)
        return
    async with aiohttp.ClientSession() as session, FakeSendGrid() as fake:
        yield sendgrid_mailer(fake, session, clock)
