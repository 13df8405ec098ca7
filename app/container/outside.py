"""The settings of the vendors: CRM, calendar, mail, code."""

from app.integrations import registry as integrations
from app.integrations.hours import BusinessHours
from app.settings import Settings, revealed


def integration_settings(settings: Settings) -> integrations.IntegrationSettings:
    def secret(name: str) -> str:
        return revealed(getattr(settings, name)) or ""

    return integrations.IntegrationSettings(
        crm=settings.crm,
        calendar=settings.calendar,
        mailer=settings.mailer,
        vendor_tenants=settings.vendor_tenants,
        hours=BusinessHours(zone=settings.calendar_time_zone),
        hubspot_token=secret("hubspot_token"),
        salesforce_instance_url=settings.salesforce_instance_url or "",
        salesforce_client_id=settings.salesforce_client_id or "",
        salesforce_client_secret=secret("salesforce_client_secret"),
        google_calendar_id=settings.google_calendar_id or "",
        google_service_account_file=settings.google_service_account_file,
        google_subject=settings.google_subject,
        crm_fields=settings.crm_fields,
        sendgrid_key=secret("sendgrid_key"),
        mail_from=settings.mail_from,
        github_token=secret("github_token"),
        github_url=settings.github_url,
    )
