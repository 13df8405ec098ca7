"""Who is told of which alert, and what is not said twice: Alertmanager's configuration, from the rules' own labels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import yaml

from alerts.model import Pace, Severity, Team
from infra.links import LINKS

FOLDER: Final = Path(__file__).parent / "alertmanager"
TEMPLATES: Final = FOLDER / "trellis.tmpl"
SECRETS: Final = "/etc/alertmanager/secrets"
"""A file for each secret, mounted: the keys of PagerDuty (`pager-<team>`), the address of the chat, the heartbeat's."""
_HEAD: Final = "# Written by `make generated` from alerts/routes.py: never edited by hand.\n"
_HOURS: Final = "working-hours"
_GROUPED: Final = ["alertname", "phase", "region", "team"]
_PLACE: Final = ("phase", "region")
Document = Mapping[str, Any]


class Channel(StrEnum):
    PAGER = "pager"
    CHAT = "chat"
    HEARTBEAT = "heartbeat"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Receiver:
    """Somebody who is told: a team's pager or chat, or (without a team) a machine."""

    channel: Channel
    team: Team | None = None

    @property
    def name(self) -> str:
        return f"{self.channel}-{self.team}" if self.team else self.channel.value


RECEIVERS: Final = (
    *(Receiver(channel, team) for channel in (Channel.PAGER, Channel.CHAT) for team in Team),
    Receiver(Channel.HEARTBEAT),
    Receiver(Channel.NOBODY),
)


@dataclass(frozen=True, slots=True)
class Inhibition:
    """While one alert fires, others are not sent: those with the same values of `equal` (and of phase and region).

    `silenced` names alerts, or is a regular expression of names.
    """

    by: str
    silenced: Sequence[str]
    equal: Sequence[str] = ()
    only_tickets: bool = True


# The same trouble, further gone.
_WORSE: Final = (
    Inhibition("PostgresConnectionsFull", ["PostgresConnections"], ["instance"]),
    Inhibition("PgBouncersDown", ["PgBouncerDown"]),
    Inhibition("QdrantShardDown", ["QdrantReplicasDead"]),
    Inhibition("KubeVolumeFull", ["KubeVolumeFilling"], ["namespace", "persistentvolumeclaim"]),
    Inhibition("NodeDiskFull", ["NodeDiskFilling"], ["instance", "mountpoint"]),
    Inhibition("CertificateExpiresSoon", ["CertificateExpiring"], ["namespace", "name"]),
    Inhibition("MetricsAbsent", ["TargetDown"], ["job"]),
)
# What follows from another alert by itself. Only tickets: that users are hurt is always said.
_FOLLOWS: Final = (
    Inhibition("PostgresDown", ["PgBouncerWaiting", "PostgresReplicaMissing", "DatabasePoolExhausted", "JobsFailing"]),
    Inhibition("PgBouncersDown", ["DatabasePoolExhausted", "JobsFailing"]),
    Inhibition("RedisClusterBroken", ["RedisDown", "RedisClusterSlots", "RedisAway", "CacheHitsFell"]),
    Inhibition("RedisDown", ["RedisAway"]),
    Inhibition("QdrantDown", ["QdrantPeersAway", "QdrantErrors", "RetrievalFailing", "IngestFailing"]),
    Inhibition("VllmDown", ["VllmWaiting", "VllmErrors", "ModelFallbacks"]),
    Inhibition("KubeNodeNotReady", ["TargetDown", "KubePodCrashLooping", "Gpu[A-Z].*", "Node[A-Z].*"], ["node"]),
)
INHIBITIONS: Final = (
    Inhibition("RegionDown", [".+"], only_tickets=False),
    *_WORSE,
    *_FOLLOWS,
)


def by_services(receiver: Receiver) -> Document:
    """What is configured of a receiver in production: PagerDuty, Slack, and a service that misses the heartbeat."""
    match receiver.channel:
        case Channel.PAGER:
            return {"pagerduty_configs": [_pager(receiver)]}
        case Channel.CHAT:
            return {"slack_configs": [_chat(receiver)]}
        case Channel.HEARTBEAT:
            key = {"authorization": {"credentials_file": f"{SECRETS}/{receiver.name}"}}
            return {"webhook_configs": [{"url": LINKS.heartbeat, "send_resolved": False, "http_config": key}]}
    return {}


def _pager(receiver: Receiver) -> Document:
    return {
        "routing_key_file": f"{SECRETS}/{receiver.name}",
        "severity": "critical",
        "description": '{{ template "trellis.title" . }}',
        "client": "Trellis",
        "client_url": '{{ template "trellis.dashboard" . }}',
        "details": {"alerts": '{{ template "trellis.text" . }}', "runbook": '{{ template "trellis.runbook" . }}'},
    }


def _chat(receiver: Receiver) -> Document:
    return {
        "api_url_file": f"{SECRETS}/chat",
        "channel": f"#trellis-{receiver.team}",
        "send_resolved": True,
        "title": '{{ template "trellis.title" . }}',
        "title_link": '{{ template "trellis.runbook" . }}',
        "text": '{{ template "trellis.text" . }}',
        "color": '{{ if eq .Status "firing" }}warning{{ else }}good{{ end }}',
    }


def document(
    tell: Callable[[Receiver], Document] = by_services, *, pace: Pace | None = None, hours: bool = True
) -> Document:
    """Alertmanager's configuration.

    Args:
        tell: what is configured of a receiver; tests put their own sink here.
        pace: divides every time to wait.
        hours: whether tickets wait for the working day.
    """
    pace = pace or Pace()
    return {
        "templates": [TEMPLATES.name],
        "route": {
            "receiver": Receiver(Channel.CHAT, Team.PLATFORM).name,
            "group_by": _GROUPED,
            **_waits(pace, 30, 300, 43_200),
            "routes": [*_machines(pace), _broken_way(), _pages(pace), _tickets(pace, hours)],
        },
        "inhibit_rules": [_burn(), *map(_rule, INHIBITIONS)],
        "receivers": [{"name": receiver.name, **tell(receiver)} for receiver in RECEIVERS],
        **({"time_intervals": [_working_hours()]} if hours else {}),
    }


def _waits(pace: Pace, first_s: float, more_s: float, again_s: float) -> Document:
    """`first_s`: how long a new group gathers; `more_s`: what joins it later; `again_s`: until it is said again."""
    return {"group_wait": pace(first_s), "group_interval": pace(more_s), "repeat_interval": pace(again_s)}


def _machines(pace: Pace) -> Iterator[Document]:
    yield {
        "matchers": ['alertname="Watchdog"'],
        "receiver": Receiver(Channel.HEARTBEAT).name,
        "group_by": list(_PLACE),
        **_waits(pace, 1, 60, 60),
    }
    yield {"matchers": [f'severity="{Severity.NONE}"'], "receiver": Receiver(Channel.NOBODY).name}


def _broken_way() -> Document:
    """That people are not told must not only take the way that may be broken: the chat hears of it too."""
    told = Receiver(Channel.CHAT, Team.PLATFORM).name
    return {"matchers": ['alertname="AlertmanagerNotificationsFailing"'], "receiver": told, "continue": True}


def _pages(pace: Pace) -> Document:
    return {
        "matchers": [f'severity="{Severity.PAGE}"'],
        "receiver": Receiver(Channel.PAGER, Team.PLATFORM).name,
        **_waits(pace, 10, 60, 3600),
        "routes": [_of_team(Receiver(Channel.PAGER, team)) for team in Team],
    }


def _tickets(pace: Pace, hours: bool) -> Document:
    # A route below does not take over when its parent is quiet.
    when = {"active_time_intervals": [_HOURS]} if hours else {}
    return {
        "matchers": [f'severity="{Severity.TICKET}"'],
        "receiver": Receiver(Channel.CHAT, Team.PLATFORM).name,
        **_waits(pace, 60, 300, 86_400),
        "routes": [{**_of_team(Receiver(Channel.CHAT, team)), **when} for team in Team],
    }


def _of_team(receiver: Receiver) -> Document:
    return {"matchers": [f'team="{receiver.team}"'], "receiver": receiver.name}


def _working_hours() -> Document:
    """UTC; a team elsewhere gives its `location`."""
    day = {"weekdays": ["monday:friday"], "times": [{"start_time": "07:00", "end_time": "17:00"}]}
    return {"name": _HOURS, "time_intervals": [day]}


def _burn() -> Document:
    """A budget that burns fast burns slowly too: the page of an SLO silences its ticket."""
    return {
        "source_matchers": [f'severity="{Severity.PAGE}"', 'alertname=~".+BudgetBurn"'],
        "target_matchers": [f'severity="{Severity.TICKET}"', 'alertname=~".+BudgetBurn"'],
        "equal": ["alertname", *_PLACE],
    }


def _rule(inhibition: Inhibition) -> Document:
    names = "|".join(inhibition.silenced)
    never = [f'alertname!~"{inhibition.by}|Watchdog"']
    severity = [f'severity="{Severity.TICKET}"'] if inhibition.only_tickets else []
    return {
        "source_matchers": [f'alertname="{inhibition.by}"'],
        "target_matchers": [f'alertname=~"{names}"', *never, *severity],
        "equal": [*_PLACE, *inhibition.equal],
    }


def committed() -> Mapping[Path, str]:
    """The file of `alerts/alertmanager`, as it should be."""
    text = yaml.safe_dump(_plain(document()), sort_keys=False, width=100, allow_unicode=True)
    return {FOLDER / "alertmanager.yaml": _HEAD + text}


def _plain(value: Any) -> Any:
    """Without anything that YAML would write as a reference to another place."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value
