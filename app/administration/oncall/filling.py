"""Puts an alert's labels into a page's commands, quoted: whoever can send an alert must not be able to run anything."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from app.administration.oncall.alerts import Alert

VARIABLES: Final[Mapping[str, str]] = {
    "persistentvolumeclaim": "CLAIM",
    "horizontalpodautoscaler": "HPA",
    "job_name": "JOB",
    "scaledObject": "SCALED",
}
"""What pages call a label, where that is not its name in capitals."""
_PLACEHOLDER: Final = re.compile(r"\$(?:\{([A-Z][A-Z0-9_]*)\}|([A-Z][A-Z0-9_]*))")
_ASSIGNED: Final = re.compile(r"(?:^|[;&|(\s])([A-Z][A-Z0-9_]*)=", re.MULTILINE)
_PLAIN: Final = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


def variables(alerts: Sequence[Alert]) -> Mapping[str, str]:
    """What placeholders stand for: labels that all the alerts have with the same value."""
    first, *others = (alert.labels for alert in alerts)
    agreed = {name: value for name, value in first.items() if all(labels.get(name) == value for labels in others)}
    plain = {name.upper(): value for name, value in agreed.items() if name not in VARIABLES}
    return plain | {VARIABLES[name]: value for name, value in agreed.items() if name in VARIABLES}


def used(bodies: Sequence[str]) -> frozenset[str]:
    """Names of all placeholders in commands, without those that a command sets itself."""
    own = {name for body in bodies for name in _ASSIGNED.findall(body)}
    return frozenset(first or second for body in bodies for first, second in _PLACEHOLDER.findall(body)) - own


def exported(values: Mapping[str, str]) -> str:
    """A line for the shell that sets the placeholders; empty for none."""
    return (
        "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in sorted(values.items())) if values else ""
    )


def filled(command: str, values: Mapping[str, str]) -> str:
    """The command with its placeholders replaced, each quoted for the place where it stands.

    What has no value stays as it is, and so does what stands in single quotes, where a shell replaces nothing.
    """
    return "".join(_filled(command, values))


def _filled(command: str, values: Mapping[str, str]) -> Iterator[str]:
    inside = [""]
    place = 0
    while place < len(command):
        found = None if inside[-1] == "'" else _PLACEHOLDER.match(command, place)
        value = values.get(found[1] or found[2]) if found else None
        if found and value is not None:
            yield _quoted(value, inside[-1])
            place = found.end()
            continue
        piece = _piece(command, place, inside[-1])
        _follow(piece, inside)
        yield piece
        place += len(piece)


def _piece(command: str, place: int, inside: str) -> str:
    """The next letters that belong together: an escaped one, the begin of a command in a command, or one alone."""
    if inside != "'" and (command[place] == "\\" or command.startswith("$(", place)):
        return command[place : place + 2]
    return command[place]


def _follow(piece: str, inside: list[str]) -> None:
    """Keeps what is open, the innermost last: a quote, a parenthesis, or nothing."""
    now = inside[-1]
    if piece == now and now in ("'", '"'):
        inside.pop()
    elif now == "'":
        return
    elif piece == "$(" or (piece == "(" and now != '"'):
        inside.append("(")
    elif piece == ")" and now == "(":
        inside.pop()
    elif piece == '"' or (piece == "'" and now != '"'):
        inside.append(piece)


def _quoted(value: str, inside: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    # Double quotes still replace within, and an interactive shell looks for "!" there: they are closed around it.
    return f'"{shlex.quote(value)}"' if inside == '"' else shlex.quote(value)
