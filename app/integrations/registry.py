"""Which CRM, calendar, mailer and host of code a process works with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from app.clock import Clock, system_clock
from app.errors import ConfigError
from app.integrations import github, google_calendar, hubspot, sendgrid
from app.integrations.base import AccountContext, Calendar, CodeHost, Crm, Mailer
from app.integrations.hours import BusinessHours
from app.integrations.hubspot_context import HubSpotContext
from app.integrations.local import LocalCalendar, LocalCrm, LocalOutbox
from app.integrations.local_context import LocalAccountContext, LocalCodeHost
from app.integrations.salesforce import SalesforceCrm
from app.integrations.vendor_http import Limits
from app.settings import CalendarKind, CrmKind, MailerKind
from app.storage.db import Database


@dataclass(frozen=True, slots=True)
class IntegrationSettings:
    """The part of the settings that chooses and connects; named like the app's settings.

    `vendor_tenants` are the tenants whose vendor accounts these are: a call for any other is refused.
    `crm_fields` maps our contact properties to the vendor's field names; a property without one stays here.
    `github_token` turns GitHub on; HubSpot as the CRM also tells of companies.
    """

    crm: CrmKind = CrmKind.LOCAL
    calendar: CalendarKind = CalendarKind.LOCAL
    mailer: MailerKind = MailerKind.LOCAL
    vendor_tenants: frozenset[str] = frozenset()
    hours: BusinessHours = field(default_factory=BusinessHours)
    limits: Limits = field(default_factory=Limits)
    crm_fields: Mapping[str, str] = field(default_factory=dict)
    hubspot_token: str = field(default="", repr=False)
    hubspot_url: str = hubspot.BASE_URL
    salesforce_instance_url: str = ""
    salesforce_client_id: str = ""
    salesforce_client_secret: str = field(default="", repr=False)
    google_calendar_id: str = ""
    google_service_account_file: Path | None = None
    google_subject: str | None = None
    google_url: str = google_calendar.BASE_URL
    sendgrid_key: str = field(default="", repr=False)
    sendgrid_url: str = sendgrid.BASE_URL
    mail_from: str = ""
    github_token: str = field(default="", repr=False)
    github_url: str = github.BASE_URL


@dataclass(frozen=True, slots=True)
class Integrations:
    crm: Crm
    calendar: Calendar
    mailer: Mailer
    code: CodeHost
    accounts: AccountContext


def build(
    settings: IntegrationSettings, db: Database, session: aiohttp.ClientSession, clock: Clock = system_clock
) -> Integrations:
    """Raises ConfigError that names what a chosen vendor lacks; nothing is sent yet. The caller closes `session`."""
    return Integrations(
        crm=_crm(settings, db, session, clock),
        calendar=_calendar(settings, db, session, clock),
        mailer=_mailer(settings, db, session, clock),
        code=_code(settings, db, session, clock),
        accounts=_accounts(settings, db, session, clock),
    )


def _crm(settings: IntegrationSettings, db: Database, session: aiohttp.ClientSession, clock: Clock) -> Crm:
    match settings.crm:
        case CrmKind.LOCAL:
            return LocalCrm(db, clock)
        case CrmKind.HUBSPOT:
            return hubspot.HubSpotCrm(
                session,
                settings.hubspot_token,
                settings.vendor_tenants,
                fields=settings.crm_fields,
                base_url=settings.hubspot_url,
                limits=settings.limits,
                clock=clock,
            )
        case CrmKind.SALESFORCE:
            return SalesforceCrm(
                session,
                settings.salesforce_instance_url,
                settings.salesforce_client_id,
                settings.salesforce_client_secret,
                settings.vendor_tenants,
                fields=settings.crm_fields,
                limits=settings.limits,
                clock=clock,
            )


def _calendar(settings: IntegrationSettings, db: Database, session: aiohttp.ClientSession, clock: Clock) -> Calendar:
    match settings.calendar:
        case CalendarKind.LOCAL:
            return LocalCalendar(db, clock, settings.hours)
        case CalendarKind.GOOGLE:
            return google_calendar.GoogleCalendar(
                session,
                _key_file(settings.google_service_account_file),
                settings.google_calendar_id,
                settings.vendor_tenants,
                subject=settings.google_subject,
                hours=settings.hours,
                base_url=settings.google_url,
                limits=settings.limits,
                clock=clock,
            )


def _mailer(settings: IntegrationSettings, db: Database, session: aiohttp.ClientSession, clock: Clock) -> Mailer:
    match settings.mailer:
        case MailerKind.LOCAL:
            return LocalOutbox(db, clock)
        case MailerKind.SENDGRID:
            return sendgrid.SendGridMailer(
                session,
                settings.sendgrid_key,
                settings.mail_from,
                settings.vendor_tenants,
                base_url=settings.sendgrid_url,
                limits=settings.limits,
                clock=clock,
            )


def _code(settings: IntegrationSettings, db: Database, session: aiohttp.ClientSession, clock: Clock) -> CodeHost:
    if not settings.github_token:
        return LocalCodeHost(db)
    return github.GitHub(
        session,
        settings.github_token,
        settings.vendor_tenants,
        base_url=settings.github_url,
        limits=settings.limits,
        clock=clock,
    )


def _accounts(
    settings: IntegrationSettings, db: Database, session: aiohttp.ClientSession, clock: Clock
) -> AccountContext:
    if settings.crm is not CrmKind.HUBSPOT:
        return LocalAccountContext(db)
    return HubSpotContext(
        session,
        settings.hubspot_token,
        settings.vendor_tenants,
        base_url=settings.hubspot_url,
        limits=settings.limits,
        clock=clock,
    )


def _key_file(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"TRELLIS_GOOGLE_SERVICE_ACCOUNT_FILE '{path}' cannot be read: check the path.") from error
