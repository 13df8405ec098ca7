"""What a plan keeps of a program is what an engine would have seen."""

import pulumi
import pytest

from infra.errors import InfraError
from infra.recording import HIDDEN
from tests.support.infra import URN, Part, Thing, recorded


def by_name(graph):
    return {resource.name: resource for resource in graph.resources}


def test_a_resource_is_named_after_the_types_of_its_parents_as_the_engine_does():
    def program():
        inner = Part("inner", parent=Part("outer"))
        Thing("deep", parent=inner)
        Thing("top")

    found = by_name(recorded(program))
    assert found["deep"].urn == f"{URN}trellis:aws:Part$trellis:aws:Part$aws:s3/bucket:Bucket::deep"
    assert found["deep"].parent == found["inner"].urn
    assert found["top"].urn == f"{URN}aws:s3/bucket:Bucket::top"


def test_secrets_are_marked_and_not_kept():
    def program():
        Thing("a", {"plain": 1, "deep": {"key": pulumi.Output.secret("hunter2")}, "all": [pulumi.Output.secret(2)]})
        pulumi.export("told", pulumi.Output.secret("hunter2"))

    graph = recorded(program)
    (thing,) = graph.resources
    assert thing.inputs["plain"] == 1
    assert thing.inputs["deep"] == {"key": HIDDEN} or thing.inputs["deep"] == HIDDEN
    assert any(path.startswith("deep") for path in thing.secrets)
    assert "hunter2" not in repr(graph)


def test_protection_and_what_a_resource_needs_are_kept():
    def program():
        first = Thing("first", protect=True, ignore_changes=["tags"])
        Thing("second", depends_on=[first])

    found = by_name(recorded(program))
    assert found["first"].protect
    assert found["first"].ignore_changes == ["tags"]
    assert found["second"].depends_on == [found["first"].urn]


def test_an_alias_is_a_whole_name_under_each_name_that_the_parent_had():
    def program():
        outer = Part("new", aliases=[pulumi.Alias(type_="trellis:aws:Former")])
        Thing("renamed", parent=outer, aliases=[pulumi.Alias(name="was")])
        Thing("moved", parent=outer, aliases=[pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)])
        Thing("new-log", parent=outer)

    found = by_name(recorded(program))
    bucket = "aws:s3/bucket:Bucket"
    assert found["new"].aliases == [f"{URN}trellis:aws:Former::new"]
    assert set(found["renamed"].aliases) == {
        f"{URN}trellis:aws:Part${bucket}::was",
        f"{URN}trellis:aws:Former${bucket}::was",
        f"{URN}trellis:aws:Former${bucket}::renamed",
    }
    assert f"{URN}{bucket}::moved" in found["moved"].aliases
    assert found["new-log"].aliases == [f"{URN}trellis:aws:Former${bucket}::new-log"]


def test_a_child_named_after_its_parent_follows_when_that_is_renamed():
    def program():
        Thing("new-log", parent=Part("new", aliases=[pulumi.Alias(name="old")]))

    assert by_name(recorded(program))["new-log"].aliases == [f"{URN}trellis:aws:Part$aws:s3/bucket:Bucket::old-log"]


def test_two_resources_of_one_name_are_refused():
    def program():
        Thing("twice")
        Thing("twice")

    with pytest.raises(InfraError, match="Two resources of type 'aws:s3/bucket:Bucket' are named 'twice'"):
        recorded(program)


def test_a_program_that_asks_a_provider_is_refused_since_a_plan_has_none():
    def program():
        pulumi.runtime.invoke("aws:index/getRegion:getRegion", {})

    with pytest.raises(Exception, match="an offline plan cannot answer it"):
        recorded(program)


def test_a_stack_that_was_not_made_is_named_where_it_is_read():
    def program():
        pulumi.StackReference("x", stack_name="organization/trellis/small-eu-west-1-infra")

    with pytest.raises(InfraError, match="small-eu-west-1-infra' has to be made first"):
        recorded(program)


def test_outputs_of_other_stacks_are_read_and_own_ones_kept():
    def program():
        other = pulumi.StackReference("x", stack_name="organization/trellis/other")
        pulumi.export("again", other.require_output("name"))

    assert recorded(program, {"other": {"name": "value"}}).outputs == {"again": "value"}
