"""The first start of the PoC's machine, as cloud-init reads it: our files, two files of settings, one script."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import yaml

from infra.errors import InfraError
from infra.versions import CADDY, LITESTREAM, Program

FILES: Final = Path(__file__).parent / "files"
PLACES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "install.sh": "/opt/trellis/install.sh",
        "fetch_settings.py": "/opt/trellis/fetch_settings.py",
        "litestream.yml": "/etc/trellis/litestream.yml",
        "Caddyfile": "/etc/trellis/Caddyfile",
        **{
            unit: f"/etc/systemd/system/{unit}"
            for unit in (
                "trellis-settings.service",
                "trellis-restore.service",
                "litestream.service",
                "trellis.service",
                "caddy.service",
            )
        },
    }
)
"""Where each file of `files/` lies on the machine."""
HOME: Final = "/data/trellis"
LIMIT: Final = 16 * 1024
"""Bytes that EC2 takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one machine is told. `volume`: id of the data volume; `bucket`: name of that of backups; `secret`: name of
    the app's secret settings; `email`: who hears of a certificate that cannot be renewed."""

    domain: str
    email: str
    region: str
    release: str
    repository: str
    volume: str
    bucket: str
    secret: str


def app_settings(machine: Machine) -> Mapping[str, str]:
    """The app's own settings that are no secrets; the image sets the same (app/Dockerfile)."""
    return {
        "TRELLIS_ENVIRONMENT": "production",
        "TRELLIS_PHASE": "poc",
        "TRELLIS_REGION": machine.region,
        "TRELLIS_HOME": HOME,
        "TRELLIS_HOST": "127.0.0.1",
        "TRELLIS_LOG_JSON": "true",
        # Caddy says who asks.
        "TRELLIS_TRUSTED_PROXIES": "127.0.0.1",
    }


def user_data(machine: Machine) -> str:
    """The same text for the same machine: another text replaces the machine, and only then.

    Raises InfraError where it is more than EC2 takes.
    """
    written = [
        _file("/etc/trellis/instance.env", _environment(_instance(machine))),
        _file("/etc/trellis/trellis.env", _environment(app_settings(machine))),
        *(_file(place, (FILES / name).read_text()) for name, place in sorted(PLACES.items())),
    ]
    config = {"write_files": written, "runcmd": [["bash", PLACES["install.sh"]]]}
    text = "#cloud-config\n" + yaml.dump(config, Dumper=_Readable, sort_keys=True, width=1000)
    if len(text.encode()) > LIMIT:
        raise InfraError(f"The machine's first start takes {len(text.encode())} bytes, and EC2 {LIMIT}: shorten it.")
    return text


def _instance(machine: Machine) -> Mapping[str, str]:
    return {
        "BUCKET": machine.bucket,
        "DOMAIN": machine.domain,
        "EMAIL": machine.email,
        "REGION": machine.region,
        "RELEASE": machine.release,
        "REPOSITORY": machine.repository,
        "SECRET": machine.secret,
        "VOLUME": machine.volume,
        **_program("LITESTREAM", LITESTREAM),
        **_program("CADDY", CADDY),
    }


def _program(name: str, program: Program) -> Mapping[str, str]:
    return {f"{name}_URL": program.url, f"{name}_SHA256": program.sha256}


def _environment(values: Mapping[str, str]) -> str:
    """For a shell and for systemd, which reads quotes as a shell does."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(values.items()))


def _file(path: str, content: str) -> Mapping[str, str]:
    return {"path": path, "permissions": "0644", "content": content}


class _Readable(yaml.SafeDumper):
    """Files as blocks, not as one escaped line."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _block)
