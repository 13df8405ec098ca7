"""What a change would do: renamed with an alias is changed, without one it is deleted and made anew."""

import pytest

from infra.difference import changes, compare, graphs_of_revision, successors
from infra.errors import InfraError
from tests import urns
from tests.support.infra import STACK, URN, graph, resource

BUCKET = f"{URN}aws:s3/bucket:Bucket::"


def test_what_is_new_gone_and_changed_is_told_apart():
    before = graph(resource("same"), resource("gone"), resource("changed", inputs={"a": 1, "b": 2}))
    now = graph(resource("same"), resource("new"), resource("changed", inputs={"a": 1, "b": 3}, protect=True))
    assert changes(before, now) == [
        ("~", f"{BUCKET}changed", "b, protect"),
        ("-", f"{BUCKET}gone", ""),
        ("+", f"{BUCKET}new", ""),
    ]


def test_a_stack_that_is_new_or_gone_is_made_or_deleted_whole():
    whole = graph(resource("a", protect=True))
    assert changes(None, whole) == [("+", f"{BUCKET}a", "")]
    assert changes(whole, None) == [("-", f"{BUCKET}a", "protected: the engine refuses")]


def test_a_rename_with_an_alias_is_a_change_and_without_one_a_loss():
    before = graph(resource("old", inputs={"a": 1}))
    followed = graph(resource("new", inputs={"a": 2}, aliases=[f"{BUCKET}old"]))
    assert changes(before, followed) == [("~", f"{BUCKET}new", "was aws:s3/bucket:Bucket::old; a")]
    assert [line[0] for line in changes(before, graph(resource("new")))] == ["+", "-"] or [
        line[0] for line in changes(before, graph(resource("new")))
    ] == ["-", "+"]


def test_an_alias_to_what_still_stands_follows_nothing():
    now = graph(resource("old"), resource("new", aliases=[f"{BUCKET}old"]))
    assert successors([f"{BUCKET}old"], now.resources) == {}


def test_a_table_has_a_line_for_each_change():
    assert compare({STACK: graph(resource("a"))}, {STACK: graph(resource("b"), resource("c"))}).row_count == 3


@pytest.mark.parametrize("revision", ["no-such-revision", "--output=/tmp/x", "-h"])
def test_a_revision_that_is_not_there_is_one_sentence(revision):
    with pytest.raises(InfraError, match="There is no revision"):
        graphs_of_revision(revision, [STACK])


class TestNamesThatWereAgreedOn:
    def test_new_ones_are_complained_of_until_they_are_written_down(self, tmp_path):
        assert urns.complaints({STACK: graph(resource("a"))}, tmp_path)
        assert urns.write({STACK: graph(resource("a"))}, tmp_path, drop=False) == []
        assert urns.complaints({STACK: graph(resource("a"))}, tmp_path) == []
        (said,) = urns.complaints({STACK: graph(resource("a"), resource("b"))}, tmp_path)
        assert "`make urns` writes them down" in said

    def test_a_rename_needs_an_alias_or_to_be_dropped_on_purpose(self, tmp_path):
        urns.write({STACK: graph(resource("a"))}, tmp_path, drop=False)
        renamed = {STACK: graph(resource("b"))}
        (said,) = urns.complaints(renamed, tmp_path)
        assert "aws:s3/bucket:Bucket::a" in said
        assert "alias" in said
        assert urns.write(renamed, tmp_path, drop=False)
        assert urns.complaints(renamed, tmp_path) == [said]
        assert urns.write(renamed, tmp_path, drop=True) == []
        assert urns.complaints(renamed, tmp_path) == []

    def test_a_rename_with_an_alias_is_only_written_down(self, tmp_path):
        urns.write({STACK: graph(resource("a"))}, tmp_path, drop=False)
        followed = {STACK: graph(resource("b", aliases=[f"{BUCKET}a"]))}
        (said,) = urns.complaints(followed, tmp_path)
        assert "`make urns` writes them down" in said
        assert urns.write(followed, tmp_path, drop=False) == []

    def test_a_whole_stack_that_is_gone_is_complained_of(self, tmp_path):
        urns.write({STACK: graph(resource("a"))}, tmp_path, drop=False)
        (said,) = urns.complaints({}, tmp_path)
        assert "the whole stack is gone" in said
        assert urns.write({}, tmp_path, drop=False)
        assert urns.write({}, tmp_path, drop=True) == []
        assert urns.complaints({}, tmp_path) == []
