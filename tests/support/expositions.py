"""`python -m tests.support.expositions capture [job=program...]`: writes tests/data/expositions anew.

Asks real exporters before real servers and keeps of what they say the names, the labels and a few samples of each:
every value is 1, and nothing of it tells which machine it was. `program` is a path to an exporter that is not on PATH.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.support.exporters import EXPORTERS, program_of
from tests.support.promql import EXPOSITIONS

_SAMPLE: Final = re.compile(r"^([a-zA-Z_:][\w:]*)(\{.*\})? \S+( #.*)?$")
_OWN: Final = re.compile(r"^(go_|process_|promhttp_|python_|postgres_exporter_|redis_exporter_|net_conntrack_)")
_LABEL: Final = re.compile(r"(\w+)=")
_SETTINGS: Final = re.compile(r"pg_settings_(?!max_connections|superuser_reserved|autovacuum|max_wal|wal_keep)")
_KEPT: Final = 8
"""Samples of one name with the same labels: enough for the values of a state or of a mode."""
_TELLING: Final = (
    (re.compile(r"127\.0\.0\.1[:,]\d+"), "127.0.0.1:1"),
    (re.compile(r'(port|master_port|slave_port|slot_name)="\d+"'), r'\1="1"'),
    (re.compile(r"standby_\d+"), "standby_1"),
    (re.compile(r"/(tmp|dev/shm|home|work|root)/[^\",]*"), "/example"),
    (re.compile(r'(run_id|process_id|system_identifier|name|peer)="[0-9A-Za-z]{16,}"'), r'\1="1"'),
    (re.compile(r'(os|kernel|build_user|hostname)="[^"]*"'), r'\1="1"'),
)
_VERSION: Final = r"(?:version|Exporter|/{program}\s) ?v?(\d+(?:\.\d+)+)"


def trimmed(text: str) -> str:
    """An exposition without the exporter's own figures, a few samples a name, every value 1."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, dict[str, list[str]]] = {}
    family = ""
    for line in text.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            family = line.split()[2]
            known = heads.setdefault(family, [])
            if line not in known and len(known) < 2:
                known.append(line)
        elif (found := _SAMPLE.match(line)) and not (_OWN.match(found[1]) or _SETTINGS.match(found[1])):
            _keep(samples.setdefault(family, {}), found[1], _nameless(found[2] or ""))
    return "\n".join(_lines(heads, samples)) + "\n"


def _nameless(labels: str) -> str:
    for pattern, instead in _TELLING:
        labels = pattern.sub(instead, labels)
    return labels


def _keep(family: dict[str, list[str]], name: str, labels: str) -> None:
    shape = f"{name} {sorted(_LABEL.findall(labels))}"
    line = f"{name}{labels} 1"
    kept = family.setdefault(shape, [])
    if line not in kept and len(kept) < _KEPT:
        kept.append(line)


def _lines(heads: Mapping[str, list[str]], samples: Mapping[str, Mapping[str, list[str]]]) -> Iterator[str]:
    for family in sorted(samples):
        yield from sorted(heads.get(family, []))
        for shape in samples[family].values():
            yield from shape


def version(program: Path) -> str:
    """As the program says; for one that was built without a version, the Go module's."""
    for command in ([program, "--version"], ["go", "version", "-m", program]):
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        if found := re.search(_VERSION.format(program=program.name), told.stdout + told.stderr):
            return found[1]
    raise ValueError(f"{program} does not tell its version")


def write(job: str, programs: Mapping[str, Path]) -> Path:
    """Captures one job into its file, and returns it."""
    exporter = EXPORTERS[job]
    with tempfile.TemporaryDirectory() as folder:
        text = trimmed(exporter.capture(Path(folder) / job, programs))
    told = version(program_of(exporter.program, programs))
    head = f"# {exporter.program} {told} asked about {exporter.before}; values are left out.\n"
    path = EXPOSITIONS / f"{job}.prom"
    path.write_text(head + text)
    return path


if __name__ == "__main__":
    given = {name: Path(where) for name, _, where in (argument.partition("=") for argument in sys.argv[2:])}
    for name in EXPORTERS:
        print(write(name, given))
