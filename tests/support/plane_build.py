"""Builds the control plane of tests/cluster/plane once, and keeps it with what it is given: kwok's stages, real CRDs.

`python -m tests.support.plane_build` builds it before any test asks; the answer is kept in `.tools/plane/<key>`, by
what it is made from. Cold it takes 9 minutes of CPU time (docs/decisions/0050), without a change none.
"""

import fcntl
import fnmatch
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.support.processes import ROOT

SOURCE: Final = ROOT / "tests" / "cluster" / "plane"
CACHE: Final = ROOT / ".tools" / "plane"
VERSION: Final = "1.36.4"
_PARALLEL: Final = "2"
_STAGES: Final = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)
_USAGE: Final = ("usage/usage-from-annotation.yaml", "resource/metrics-resource.yaml")


@dataclass(frozen=True)
class Definitions:
    """CRDs that a Go module carries: `files` is a glob pattern in its folder."""

    module: str
    version: str
    files: str


# Of the operators' own modules, which the checksum database vouches for. Groups that none of them has get a minimal
# definition (tests/cluster/definitions.py).
DEFINITIONS: Final = (
    Definitions("github.com/aws/karpenter-provider-aws", "v1.14.2", "pkg/apis/crds/*.yaml"),
    Definitions("github.com/kedacore/keda/v2", "v2.20.2", "config/crd/bases/*.yaml"),
    Definitions("github.com/cert-manager/cert-manager", "v1.21.0", "deploy/crds/*.yaml"),
    Definitions("github.com/external-secrets/external-secrets", "v1.3.2", "config/crds/bases/*.yaml"),
    Definitions("sigs.k8s.io/gateway-api", "v1.6.1", "config/crd/standard/*.yaml"),
    Definitions("istio.io/api", "v1.31.1", "kubernetes/customresourcedefinitions.gen.yaml"),
)


@dataclass(frozen=True)
class Built:
    """`program`, kwok's `stages` and its `usage` of resources (folders of YAML), `definitions`: real CRDs."""

    program: Path
    stages: Path
    usage: Path
    definitions: Path


def built() -> Built | None:
    """What an earlier build left, where it is whole."""
    plane, definitions = CACHE / _plane_key(), CACHE / _definitions_key()
    return _of(plane, definitions) if plane.is_dir() and definitions.is_dir() else None


def build(go: Path) -> Built:
    """Only one process builds, the others wait for it. Raises RuntimeError with what Go said."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        plane = _kept(CACHE / _plane_key(), partial(_make, go))
        return _of(plane, _kept(CACHE / _definitions_key(), partial(_fetch, go)))


def _plane_key() -> str:
    """Changes with everything that the program is made of."""
    files = [(SOURCE / file).read_bytes() for file in ("main.go", "go.mod", "go.sum")]
    return _hashed(*files, repr((_STAGES, _USAGE, platform.machine(), platform.system())).encode())


def _definitions_key() -> str:
    return "crds-" + _hashed(repr(DEFINITIONS).encode())


def _hashed(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _of(plane: Path, definitions: Path) -> Built:
    return Built(plane / "plane", plane / "stages", plane / "usage", definitions)


def _kept(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made where it is not there; one that was interrupted is begun anew."""
    if not folder.is_dir():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        make(part)
        part.rename(folder)
    return folder


def _make(go: Path, into: Path) -> None:
    flags = f"-s -w {_stamp('gitVersion', f'v{VERSION}')} {_stamp('gitMajor', '1')} {_stamp('gitMinor', '36')}"
    how = ("-trimpath", "-buildvcs=false", f"-p={_PARALLEL}", "-ldflags", flags)
    _said(_go(go, "build", *how, "-o", str(into / "plane"), "."))
    kwok = Path(_said(_go(go, "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok")).strip()) / "kustomize"
    for place, files, name in (("stage", _STAGES, "stages"), ("metrics", _USAGE, "usage")):
        (into / name).mkdir()
        for file in files:
            shutil.copyfile(kwok / place / file, into / name / Path(file).name)


def _fetch(go: Path, into: Path) -> None:
    """From the modules' archives: a module that wants a newer Go is refused as code, and is there all the same."""
    for wanted in DEFINITIONS:
        done = _go(go, "mod", "download", "-json", f"{wanted.module}@{wanted.version}")
        archive = json.loads(done.stdout or "{}").get("Zip")
        if archive is None:
            _said(done)
            raise RuntimeError(f"{wanted.module} {wanted.version} has no archive")
        _unpack(wanted, Path(archive), into)


def _unpack(wanted: Definitions, archive: Path, into: Path) -> None:
    root = f"{wanted.module}@{wanted.version}/"
    with zipfile.ZipFile(archive) as packed:
        files = fnmatch.filter(packed.namelist(), root + wanted.files)
        if not files:
            raise RuntimeError(f"{wanted.module} {wanted.version} has no {wanted.files}")
        for file in files:
            name = f"{wanted.module.replace('/', '_')}-{Path(file).name}"
            (into / name).write_bytes(packed.read(file))


def _stamp(name: str, value: str) -> str:
    return f"-X k8s.io/component-base/version.{name}={value}"


def _go(go: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    return subprocess.run([go, *arguments], cwd=SOURCE, env=environment, capture_output=True, text=True, check=False)


def _said(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, done.args[:3]))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def main() -> int:
    go = shutil.which("go")
    if go is None:
        print("Go is not installed: the tests of tests/cluster are skipped.")
        return 0
    print(build(Path(go)).program)
    return 0


if __name__ == "__main__":
    sys.exit(main())
