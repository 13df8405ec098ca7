"""kube-score on every stack's manifests: nothing is found that kube_score.yaml does not give a reason for."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from infra.policy.exceptions import FILE, written
from infra.policy.finding import Finding
from infra.report import manifests
from tests.support.components import missing, require
from tests.support.policy import deployment
from tests.support.server import ROOT
from tests.support.stacks import every_stack

VERSION = "v1.20.0"
KEPT = ROOT / ".tools" / f"kube-score-{VERSION}"
EXCEPTIONS = FILE.with_name("kube_score.yaml")
BUILD_S = 900
SCORE_S = 120
FINE = 10


@pytest.fixture(scope="module")
def program() -> Path:
    """Built where it is not kept. Skips where there is no Go or no way to modules."""
    go = require("go")
    found = KEPT / "kube-score"
    if not found.exists():
        built = subprocess.run(
            [go, "install", f"github.com/zegl/kube-score/cmd/kube-score@{VERSION}"],
            env={**os.environ, "GOBIN": str(KEPT), "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=BUILD_S,
        )
        if built.returncode:
            missing("go", f"kube-score cannot be built: {built.stderr.strip().splitlines()[-1]}")
    return found


def scored(program, stack, objects):
    text = yaml.safe_dump_all(objects)
    command = [program, "score", "--kubernetes-version", "v1.32", "--output-format", "json", "-"]
    # Its exit code is 1 where it finds anything.
    answer = subprocess.run(command, input=text, capture_output=True, text=True, timeout=SCORE_S)
    assert answer.returncode in (0, 1), answer.stderr
    for one in json.loads(answer.stdout):
        kind, meta = one["type_meta"], one["object_meta"]
        urn = f"::{kind['apiVersion']}:{kind['kind']}::{meta.get('namespace', '')}/{meta['name']}"
        for check in one["checks"]:
            if not check["skipped"] and check["grade"] < FINE:
                for comment in check["comments"] or ():
                    yield Finding(stack, urn, check["check"]["id"], comment["summary"])


@pytest.fixture(scope="module")
def found(program):
    rendered = {name: manifests(graph) for name, graph in every_stack().items()}
    return [one for name, objects in rendered.items() if objects for one in scored(program, name, objects)]


def test_kube_score_finds_nothing_without_a_reason(found):
    assert [one for one in found if not any(allowed.covers(one) for allowed in written(EXCEPTIONS))] == []


def test_every_exception_for_kube_score_is_still_needed(found):
    assert [allowed for allowed in written(EXCEPTIONS) if not any(map(allowed.covers, found))] == []


def test_kube_score_finds_what_is_wrong(program):
    wrong = deployment(container={"image": "one:latest"}).inputs
    whole = {"apiVersion": "apps/v1", "kind": "Deployment", **wrong}
    assert "container-image-tag" in {one.rule for one in scored(program, "one", [whole])}
