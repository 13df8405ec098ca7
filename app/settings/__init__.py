"""Every setting of the app, read from `TRELLIS_*` once at start; a wrong or unknown one stops the start."""

from app.settings.loading import TOOLING, load_settings, load_settings_file
from app.settings.model import Settings, revealed
from app.settings.values import PREFIX, REGION, CalendarKind, CrmKind, Environment, MailerKind

__all__ = [
    "PREFIX",
    "REGION",
    "TOOLING",
    "CalendarKind",
    "CrmKind",
    "Environment",
    "MailerKind",
    "Settings",
    "load_settings",
    "load_settings_file",
    "revealed",
]
