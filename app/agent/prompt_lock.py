"""The lock file beside the prompts: the hash of every version that was ever committed.

A version that is in the lock keeps its text: changing it means a new version. `write_lock` adds new versions
and touches nothing else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from app.errors import ConfigError

LOCK_FILE: Final = "prompts.lock"

Digests = Mapping[tuple[str, int], str]


def check_lock(directory: Path, digests: Digests) -> None:
    """Raises ConfigError naming the first version that changed, is gone, or is not in the lock yet."""
    locked = _read(directory)
    _refuse_changes(directory, locked, digests)
    for name, version in sorted(digests.keys() - locked.keys()):
        raise ConfigError(
            f"{directory / LOCK_FILE} does not know version {version} of the prompt '{name}' yet: "
            f"run 'trellis prompts lock' and commit the file."
        )


def write_lock(directory: Path, digests: Digests) -> list[tuple[str, int]]:
    """Adds the versions that the lock does not hold yet and returns them.

    Raises ConfigError, and writes nothing, where a version in the lock changed or is gone.
    """
    locked = _read(directory)
    _refuse_changes(directory, locked, digests)
    new = sorted(digests.keys() - locked.keys())
    if new:
        by_name: dict[str, dict[str, str]] = {}
        for (name, version), digest in sorted({**locked, **digests}.items()):
            by_name.setdefault(name, {})[str(version)] = digest
        (directory / LOCK_FILE).write_bytes(orjson.dumps(by_name, option=orjson.OPT_INDENT_2) + b"\n")
    return new


def _refuse_changes(directory: Path, locked: Digests, digests: Digests) -> None:
    for (name, version), digest in sorted(locked.items()):
        found = digests.get((name, version))
        if found is None:
            raise ConfigError(
                f"Version {version} of the prompt '{name}' is gone from {directory}: "
                f"put it back with the status 'retired', decisions refer to it."
            )
        if found != digest:
            raise ConfigError(
                f"The text of version {version} of the prompt '{name}' in {directory} changed: "
                f"put the old text back and make the change a new version."
            )


def _read(directory: Path) -> dict[tuple[str, int], str]:
    path = directory / LOCK_FILE
    if not path.exists():
        return {}
    try:
        content: dict[str, dict[str, Any]] = orjson.loads(path.read_bytes())
        return {
            (name, int(version)): str(digest)
            for name, versions in content.items()
            for version, digest in versions.items()
        }
    except (ValueError, AttributeError):
        raise ConfigError(f"{path} is not a lock file of prompts: restore it from the repository.") from None
