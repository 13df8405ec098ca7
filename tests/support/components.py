"""The programs that some tests need and a machine may not have: where they are, and how they are installed.

`python3 -m tests.support.components install` (`make deps`) needs nothing but Python.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path


@dataclass(frozen=True)
class Component:
    """`programs`: any of these names will do. `folders`: glob patterns to look in after PATH, the last match first.

    `packages`: what holds the program, for each package manager.
    """

    programs: Sequence[str]
    packages: Mapping[str, str]
    folders: Sequence[str] = ()

    def find(self) -> Path | None:
        for program in self.programs:
            for folder in (None, *self._places()):
                found = shutil.which(program, path=folder)
                if found:
                    return Path(found)
        return None

    def _places(self) -> list[str]:
        return [place for pattern in self.folders for place in sorted(glob(pattern), reverse=True)]


COMPONENTS = {
    "postgres": Component(
        ["initdb"],
        {"apt-get": "postgresql", "dnf": "postgresql-server", "brew": "postgresql@15"},
        ["/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin"],
    ),
    "redis": Component(["redis-server", "valkey-server"], {"apt-get": "redis-server", "dnf": "redis", "brew": "redis"}),
    "pgbouncer": Component(
        ["pgbouncer"], {"apt-get": "pgbouncer", "dnf": "pgbouncer", "brew": "pgbouncer"}, ["/usr/sbin"]
    ),
    "prometheus": Component(["prometheus"], {"apt-get": "prometheus", "dnf": "prometheus", "brew": "prometheus"}),
    "promtool": Component(["promtool"], {"apt-get": "prometheus", "dnf": "prometheus", "brew": "prometheus"}),
    "alertmanager": Component(
        ["alertmanager", "prometheus-alertmanager"],
        {"apt-get": "prometheus-alertmanager", "dnf": "alertmanager", "brew": "alertmanager"},
    ),
    "amtool": Component(
        ["amtool"], {"apt-get": "prometheus-alertmanager", "dnf": "alertmanager", "brew": "alertmanager"}
    ),
    "postgres_exporter": Component(
        ["postgres_exporter", "prometheus-postgres-exporter"],
        {"apt-get": "prometheus-postgres-exporter", "dnf": "postgres_exporter", "brew": "postgres_exporter"},
    ),
    "redis_exporter": Component(
        ["redis_exporter", "prometheus-redis-exporter"],
        {
            "apt-get": "prometheus-redis-exporter",
            "dnf": "redis_exporter",
            "brew": "redis_exporter",
        },
    ),
    "node_exporter": Component(
        ["node_exporter", "prometheus-node-exporter"],
        {"apt-get": "prometheus-node-exporter", "dnf": "node-exporter", "brew": "node_exporter"},
    ),
    # Builds the collector that the tests run (tests/support/collector.py).
    "go": Component(["go"], {"apt-get": "golang-go", "dnf": "golang", "brew": "go"}, ["/usr/local/go/bin"]),
    "chromium": Component(
        ["chromium", "chromium-browser", "google-chrome"],
        {"apt-get": "chromium", "dnf": "chromium", "brew": "chromium"},
    ),
}
INSTALL = {
    "apt-get": ["install", "--yes", "--no-install-recommends"],
    "dnf": ["install", "--assumeyes"],
    "brew": ["install"],
}


def require(component: str) -> Path:
    """The component's program. Without it the test is skipped, or fails where TRELLIS_REQUIRE_ALL is 1.

    TRELLIS_NO_SERVERS=1 (`make test-fast`) skips it in any case.
    """
    if os.environ.get("TRELLIS_NO_SERVERS") == "1":
        return missing(component, "no servers in the fast tests")
    found = COMPONENTS[component].find()
    if found is not None:
        return found
    return missing(component, f"{' or '.join(COMPONENTS[component].programs)} is not installed")


def missing(component: str, reason: str) -> Path:
    """Skips (or fails) for a component that is there but cannot be used, with the reason."""
    import pytest  # not there when `make deps` runs this file

    line = f"{component}: {reason}"
    if os.environ.get("TRELLIS_REQUIRE_ALL") == "1":
        pytest.fail(f"needs {line}", pytrace=False)
    pytest.skip(f"needs {line}")


def absent() -> list[str]:
    return [name for name, component in COMPONENTS.items() if component.find() is None]


def install() -> int:
    """Installs what is absent where a known package manager is, and says what is missing. The exit code."""
    if not absent():
        print("Everything that the tests use is installed.")
        return 0
    manager = next((name for name in INSTALL if shutil.which(name)), None)
    if manager is None:
        print(f"No package manager of {', '.join(INSTALL)} is here. Install by hand: {', '.join(absent())}.")
        return 0
    packages = sorted({COMPONENTS[name].packages[manager] for name in absent()})
    print(f"Installing with {manager}: {' '.join(packages)}")
    _install_with(manager, packages)
    if absent():
        print(f"Still missing: {', '.join(absent())}. Tests that need them are skipped, and listed.")
    else:
        print("Everything that the tests use is installed.")
    return 0


def _install_with(manager: str, packages: Sequence[str]) -> None:
    """One package at a time where all together fail, so that one that is not to be had costs no other."""
    as_root = [] if os.name != "posix" or os.geteuid() == 0 or manager == "brew" else ["sudo"]
    # Nothing may be asked, and a server that Debian would start at installation would only take a port.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    if manager == "apt-get":
        subprocess.run([*as_root, manager, "update", "--quiet"], env=quiet, check=False, stdout=subprocess.DEVNULL)
    command = [*as_root, manager, *INSTALL[manager]]
    if subprocess.run([*command, *packages], env=quiet, check=False, stdout=subprocess.DEVNULL).returncode:
        for package in packages:
            subprocess.run([*command, package], env=quiet, check=False, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(install() if sys.argv[1:] == ["install"] else "usage: python3 -m tests.support.components install")
