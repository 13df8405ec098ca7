"""`make sbom` names every package that the lock would install, once, with its version and a hash."""

import json
import os
import subprocess
import tomllib
from typing import Any

import pytest

from tests.support.server import ROOT

Entry = dict[str, Any]


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    file = tmp_path_factory.mktemp("sbom") / "deep" / "sbom.json"
    environment = os.environ | {"UV_OFFLINE": "1"}
    subprocess.run(["make", "sbom", f"SBOM={file}"], cwd=ROOT, check=True, capture_output=True, env=environment)
    return dict(json.loads(file.read_text()))


def locked() -> list[Entry]:
    return list(tomllib.loads((ROOT / "uv.lock").read_text())["package"])


def needed(packages: list[Entry]) -> set[tuple[str, str]]:
    """Names and versions of all that the group "app" leads to, on any platform and any Python."""
    (root,) = [package for package in packages if package["name"] == "trellis"]
    waiting: list[Entry] = list(root["dev-dependencies"]["app"])
    found: dict[tuple[str, str], set[str]] = {}
    while waiting:
        wanted = waiting.pop()
        extras = set(wanted.get("extra", ()))
        for package in packages:
            if package["name"] != wanted["name"] or wanted.get("version", package["version"]) != package["version"]:
                continue
            key = (package["name"], package["version"])
            if key in found and extras <= found[key]:
                continue
            found.setdefault(key, set()).update(extras)
            waiting += package.get("dependencies", [])
            for extra in extras:
                waiting += package.get("optional-dependencies", {}).get(extra, [])
    return set(found)


def test_it_names_exactly_what_the_lock_leads_to(bill: Entry) -> None:
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["metadata"]["component"]["name"] == "trellis"
    components = [(part["name"], part["version"]) for part in bill["components"]]
    assert len(components) == len(set(components)) > 80
    assert set(components) == needed(locked())


def test_every_part_has_an_address_and_hashes(bill: Entry) -> None:
    for part in bill["components"]:
        assert part["purl"].startswith(f"pkg:pypi/{part['name']}@")
        hashes = [one for place in part["externalReferences"] for one in place["hashes"]]
        assert {one["alg"] for one in hashes} == {"SHA-256"}


def test_what_depends_on_what_is_whole(bill: Entry) -> None:
    known = {part["bom-ref"] for part in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in bill["dependencies"]}
    assert set(edges) == known
    assert {goal for goals in edges.values() for goal in goals} <= known


def test_nothing_of_the_tools_of_development_is_in_it(bill: Entry) -> None:
    assert not {part["name"] for part in bill["components"]} & {"pytest", "mypy", "ruff", "hypothesis", "pulumi"}
