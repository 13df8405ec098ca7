#!/usr/bin/python3
"""Brings the app's secret settings from Secrets Manager to where systemd reads them: /run, which no disk keeps.

The secret is one JSON object of TRELLIS_* settings. While it has no value, the app runs without it, with the offline
model. A session secret that it does not name is made here once, and kept on the data volume. Runs on Python 3.9, the
system's own.
"""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

SESSION = "TRELLIS_SESSION_SECRET"
KEPT = Path("/data/session.secret")
TARGET = Path("/run/trellis/settings.env")
NO_VALUE = "ResourceNotFoundException"


def main() -> None:
    settings = parsed(asked(os.environ["SECRET"], os.environ["REGION"]))
    settings.setdefault(SESSION, kept(KEPT))
    write(TARGET, "".join(line(name, value) for name, value in sorted(settings.items())))


def asked(secret: str, region: str) -> str:
    """The secret's text; an empty object's while it has none."""
    command = ["aws", "secretsmanager", "get-secret-value", "--secret-id", secret, "--region", region]
    found = subprocess.run(  # noqa: S603 - no shell; both names are from a file that root wrote
        [*command, "--query", "SecretString", "--output", "text"], capture_output=True, text=True, check=False
    )
    if found.returncode == 0:
        return found.stdout
    if NO_VALUE in found.stderr:
        return "{}"
    sys.exit(f"The secret '{secret}' cannot be read: {found.stderr.strip()}")


def parsed(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        sys.exit('The secret has to be one JSON object of texts: {"TRELLIS_MODEL_KEY": "..."}.')
    for name, value in found.items():
        if not name.startswith("TRELLIS_") or not name.replace("_", "").isalnum() or "\n" in value:
            sys.exit(f"The secret's '{name}' is no setting of the app: names begin with TRELLIS_, values are one line.")
    return found


def kept(path: Path) -> str:
    """Made once: people stay signed in when the machine is replaced."""
    if not path.exists():
        write(path, secrets.token_urlsafe(48))
    return path.read_text()


def line(name: str, value: str) -> str:
    """As systemd reads environment files: between double quotes four characters have a meaning."""
    for mark in '\\"`$':
        value = value.replace(mark, "\\" + mark)
    return f'{name}="{value}"\n'


def write(path: Path, text: str) -> None:
    """Whole or not at all, for root's eyes alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".fresh")
    descriptor = os.open(str(fresh), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)


if __name__ == "__main__":
    main()
