"""`trellis oncall`: all that is to be known of an alert in one place, when somebody was woken by it."""

from app.administration.oncall.command import oncall

__all__ = ["oncall"]
