"""Words that settings are chosen from, and the forms that others must have."""

from enum import StrEnum

PREFIX = "TRELLIS_"
REGION = r"^[a-z0-9-]{0,40}$"
KAFKA = r"^[A-Za-z0-9.-]+:[0-9]{1,5}(,[A-Za-z0-9.-]+:[0-9]{1,5})*$"


class Environment(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


class CrmKind(StrEnum):
    LOCAL = "local"
    HUBSPOT = "hubspot"
    SALESFORCE = "salesforce"


class CalendarKind(StrEnum):
    LOCAL = "local"
    GOOGLE = "google"


class MailerKind(StrEnum):
    LOCAL = "local"
    SENDGRID = "sendgrid"
