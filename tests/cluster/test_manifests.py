"""Every object of every stack, against strict schemas and a real API server."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import kubernetes_validate
import pytest

from infra.files import stack_files
from infra.layout import Layer, StackName
from infra.versions import KUBERNETES
from tests.cluster.definitions import define
from tests.cluster.rendered import Rendered
from tests.support.kubernetes import Object, Refused
from tests.support.plane import Plane
from tests.support.plane_build import Built

STACKS: Final = [name for name in stack_files() if StackName.parse(name).layer in (Layer.APPS, Layer.CLUSTER)]
_OWN_GROUPS: Final = ("v1", "apps/", "batch/", "autoscaling/", "policy/", "networking.k8s.io/", "storage.k8s.io/")
POD: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "one", "namespace": "default"},
    "spec": {"containers": [{"name": "one", "image": "one"}]},
}


def _schema_fault(manifest: Object) -> str | None:
    """None for what is right, and for kinds of operators, whose schema the API server checks."""
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{_name(manifest)}: {'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError:
        assert not manifest["apiVersion"].startswith(_OWN_GROUPS), f"no schema for {_name(manifest)}"
    return None


def _refusal(plane: Plane, manifest: Object) -> str | None:
    try:
        plane.api.apply(manifest, dry_run=True)
    except Refused as refused:
        return f"{_name(manifest)}: {refused}"
    return None


def _name(manifest: Object) -> str:
    meta = manifest["metadata"]
    return f"{manifest['kind']} {meta.get('namespace', '')}/{meta['name']}"


@pytest.mark.parametrize("stack", STACKS)
def test_every_object_passes_the_strict_schemas_of_the_version_that_is_installed(
    stack: str, stacks: Mapping[str, Rendered]
) -> None:
    assert stacks[stack].objects
    assert [fault for fault in map(_schema_fault, stacks[stack].objects) if fault] == []


@pytest.mark.parametrize("stack", STACKS)
def test_the_api_server_takes_every_object_by_server_side_apply(
    stack: str, stacks: Mapping[str, Rendered], plane: Plane, built: Built
) -> None:
    rendered = stacks[stack]
    define(plane, built.definitions, rendered.objects)
    for namespace in rendered.of_kind("Namespace"):
        plane.api.apply(namespace)
    refusals = map(partial(_refusal, plane), rendered.objects)
    assert [refusal for refusal in refusals if refusal] == []


def test_a_field_that_does_not_exist_fails_the_schema_and_is_refused(plane: Plane) -> None:
    wrong = {**POD, "spec": {**POD["spec"], "replica": 3}}
    assert "replica" in (_schema_fault(wrong) or "")
    assert "replica" in (_refusal(plane, wrong) or "")
    assert _schema_fault(POD) is None
    assert _refusal(plane, POD) is None


def test_a_custom_resource_is_held_against_the_operators_own_definition(plane: Plane, built: Built) -> None:
    scaled = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "one", "namespace": "default"},
        "spec": {"scaleTargetRef": {"name": "one"}, "triggers": [{"type": "cpu", "metadata": {"value": "60"}}]},
    }
    define(plane, built.definitions, [scaled])
    assert _refusal(plane, scaled) is None
    assert "maxReplica" in (_refusal(plane, {**scaled, "spec": {**scaled["spec"], "maxReplica": 3}}) or "")
