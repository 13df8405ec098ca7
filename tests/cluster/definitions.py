"""Definitions of the kinds that operators bring: the real ones of the operators' own modules.

A kind that none of those modules has gets a minimal definition, which takes any fields; `MINIMAL` lists them, so that
one more does not come in unseen.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.cluster.rendered import kinds_of
from tests.support.kubernetes import Kubernetes, Object, is_ready
from tests.support.plane import Plane
from tests.support.processes import wait_until

MINIMAL: Final = {("elbv2.k8s.aws/v1beta1", "TargetGroupBinding"): "targetgroupbindings"}
"""The load balancer controller's module has no release that carries its definitions."""


def define(plane: Plane, folder: Path, objects: Iterable[Object]) -> None:
    """Every kind of the objects that the API server does not have. Raises LookupError for one that nobody defines."""
    real = _real(folder)
    missing = [kind for kind in sorted(kinds_of(objects)) if not plane.api.has(*kind)]
    definitions = {}
    for version, kind in missing:
        definition = real.get((version, kind)) or _minimal(version, kind)
        definitions[plane.api.path(definition)] = definition
    for definition in definitions.values():
        plane.api.apply(definition)
    for path in definitions:
        _established(plane.api, path)


def _established(api: Kubernetes, path: str) -> None:
    wait_until(lambda: is_ready(api.get(path) or {}, "Established"), f"{path} is established")


@cache
def _real(folder: Path) -> Mapping[tuple[str, str], dict[str, Any]]:
    """By version and kind of what they define."""
    found = {}
    for file in sorted(folder.iterdir()):
        for definition in yaml.load_all(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if definition is None or definition.get("kind") != "CustomResourceDefinition":
                continue
            spec = definition["spec"]
            for version in spec["versions"]:
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = _alone(definition)
    return found


def _alone(definition: dict[str, Any]) -> dict[str, Any]:
    """Without the webhook that turns one version into another: nobody answers for it here."""
    spec = {key: value for key, value in definition["spec"].items() if key != "conversion"}
    return {**{key: value for key, value in definition.items() if key != "status"}, "spec": spec}


def _minimal(version: str, kind: str) -> dict[str, Any]:
    plural = MINIMAL.get((version, kind))
    if plural is None:
        raise LookupError(f"nobody defines {kind} of {version}: see tests/support/plane_build.py, DEFINITIONS")
    group, _, name = version.partition("/")
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            # Kubernetes keeps groups below k8s.io to itself, unless somebody says who let them.
            "annotations": {"api-approved.kubernetes.io": "unapproved, of tests"},
        },
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural},
            "scope": "Namespaced",
            "versions": [{"name": name, "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}],
        },
    }
