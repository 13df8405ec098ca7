"""Alerts as Prometheus and Alertmanager tell of them: from a name, or from JSON that anybody may have written."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from app.errors import InvalidInput
from app.governance.privacy import mask_secrets

RESOLVED: Final = "resolved"
LONGEST: Final = 300
MOST_ALERTS: Final = 500
LARGEST_BYTES: Final = 5_000_000
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SEVERITIES: Final = ("page", "ticket")
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. Texts are as they may be shown; `since` is None where nobody said it."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    resolved: bool = False
    since: datetime | None = None

    @property
    def severity(self) -> str:
        return self.labels.get("severity", "")

    def urgency(self) -> tuple[bool, int, str]:
        """Sorts what fires before what is over, and what pages before the rest."""
        known = _SEVERITIES.index(self.severity) if self.severity in _SEVERITIES else len(_SEVERITIES)
        return self.resolved, known, self.name


def shown(text: object) -> str:
    """Somebody else's text on one line: nothing in it steers a terminal or turns its order. Secrets are masked."""
    kept = "".join(" " if letter in "\n\t" else letter for letter in str(text)[: 2 * LONGEST])
    plain = "".join(letter for letter in kept if unicodedata.category(letter) not in _UNSEEN)
    return mask_secrets(plain.strip())[:LONGEST]


def read_alerts(text: bytes) -> Sequence[Alert]:
    """The most severe first, of a webhook's message (Alertmanager, version 4), of a list of alerts, or of one alert.

    Raises InvalidInput.
    """
    if len(text) > LARGEST_BYTES:
        raise InvalidInput(f"The alerts are larger than {LARGEST_BYTES // 1_000_000} MB: send one message at a time.")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidInput(
            "This is no JSON: give an alert's name, a file with the message of Alertmanager's webhook, or - for "
            "standard input."
        ) from None
    found = [_alert(one) for one in _listed(document)]
    if not found:
        raise InvalidInput("There is no alert in it.")
    return sorted(found, key=Alert.urgency)


def by_name(alerts: Iterable[Alert]) -> Mapping[str, Sequence[Alert]]:
    """Alerts of one name together, in the order given: they have one page."""
    found: dict[str, list[Alert]] = {}
    for alert in alerts:
        found.setdefault(alert.name, []).append(alert)
    return found


def _listed(document: Any) -> Sequence[Any]:
    if isinstance(document, dict) and "alerts" in document:
        version = document.get("version", "4")
        if version != "4":
            raise InvalidInput(f"The webhook's message has version '{shown(version)}': version 4 is what is read here.")
        document = document["alerts"]
    listed = document if isinstance(document, list) else [document]
    if len(listed) > MOST_ALERTS:
        raise InvalidInput(f"There are {len(listed)} alerts in it, {MOST_ALERTS} at most are read: name one of them.")
    return listed


def _alert(document: Any) -> Alert:
    if not isinstance(document, dict) or not isinstance(document.get("labels"), dict):
        raise InvalidInput('An alert is an object with "labels": this is neither that nor a webhook\'s message.')
    labels = _texts(document["labels"])
    if not labels.get("alertname"):
        raise InvalidInput('An alert has no label "alertname": it is no alert of Prometheus.')
    return Alert(
        labels["alertname"],
        labels,
        _texts(document.get("annotations")),
        _over(document),
        _time(document.get("startsAt")),
    )


def _texts(found: Any) -> Mapping[str, str]:
    """Names that are no names of Prometheus are left out."""
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: shown(value) for name, value in pairs if isinstance(value, str) and _NAME.fullmatch(name)}


def _over(document: Mapping[str, Any]) -> bool:
    """The webhook says it as a word; Alertmanager's API has an object there, whose alerts all fire."""
    return document.get("status") == RESOLVED


def _time(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else None
