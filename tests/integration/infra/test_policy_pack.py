"""The policy pack in its own environment, asked as the Pulumi engine asks it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.components import missing
from tests.support.infra import URN
from tests.support.server import ROOT

ENVIRONMENT = ROOT / ".venv-policy"
# What the engine sends for a text that it does not know before the resource is made (sdk/go/common/resource/plugin).
NOT_KNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
INSTALL_S = 300
ASK_S = 120
CACHE = "aws:elasticache/replicationGroup:ReplicationGroup"
BUCKET = "aws:s3/bucket:Bucket"
POLICY = "aws:s3/bucketPolicy:BucketPolicy"


@pytest.fixture(scope="module")
def python() -> Path:
    """The environment's Python; skips where it can be neither found nor installed."""
    if os.environ.get("TRELLIS_NO_SERVERS") == "1":
        missing("pulumi-policy", "no servers in the fast tests")
    uv = shutil.which("uv") or shutil.which("uv", path=ROOT / ".tools" / "bin")
    if uv is None:
        missing("pulumi-policy", "uv is not installed: `make policy` sets both up")
    made = subprocess.run(
        [uv, "sync", "--quiet", "--locked", "--no-default-groups", "--group", "policy"],
        cwd=ROOT,
        env={**os.environ, "UV_PROJECT_ENVIRONMENT": str(ENVIRONMENT), "UV_PYTHON_DOWNLOADS": "never"},
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
    )
    if made.returncode:
        missing("pulumi-policy", f"cannot be installed: {made.stderr.strip().splitlines()[-1]}")
    return ENVIRONMENT / "bin" / "python"


def sent(kind, name, *, protect=False, **properties):
    return {"urn": f"{URN}{kind}::{name}", "type": kind, "name": name, "protect": protect, "properties": properties}


def asked(python, *resources):
    """Pairs of policy and the resource's name."""
    child = ROOT / "tests" / "support" / "policy_child.py"
    answer = subprocess.run(
        [python, child], input=json.dumps(resources), capture_output=True, text=True, timeout=ASK_S, check=True
    )
    return {(policy, urn.rpartition("::")[2]) for policy, urn, _ in json.loads(answer.stdout)}


def test_the_pack_says_what_the_rules_say_and_waits_for_what_is_not_known_yet(python):
    found = asked(
        python,
        sent(CACHE, "short", protect=True, snapshotRetentionLimit=6),
        sent(CACHE, "long", protect=True, snapshotRetentionLimit=7),
        sent(CACHE, "loose", snapshotRetentionLimit=7),
        sent(BUCKET, "later", bucket="later"),
        sent(POLICY, "later", bucket="later", policy=NOT_KNOWN),
        sent(BUCKET, "open", bucket="open"),
        sent("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "endpoints", cidrIpv4="10.0.0.0/8"),
    )
    assert {one for one in found if one[0] == "backups"} == {("backups", "short")}
    assert {one for one in found if one[0] == "protection"} == {("protection", "loose")}
    assert {one for one in found if one[0] == "tls-only-buckets"} == {("tls-only-buckets", "open")}
    # As exceptions.yaml says.
    assert ("groups-by-reference", "endpoints") not in found
