"""The picture of stacks: from their graphs alone, whole, and nothing over anything else."""

from itertools import combinations
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.picture import _frame, picture
from tests.support.examples import examples
from tests.support.infra import URN, graph, resource

SVG = "{http://www.w3.org/2000/svg}"


def part(name, *children):
    """A component with resources in it."""
    urn = f"{URN}trellis:aws:{name.title()}::{name}"
    own = resource(name, f"trellis:aws:{name.title()}", urn=urn, custom=False)
    return [own, *(resource(child, urn=f"{urn}${child}", parent=urn) for child in children)]


def texts(svg):
    return [found.text for found in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_every_part_is_there_with_what_it_holds_and_who_reaches_it():
    shown = graph(
        *part("network", "a", "b"),
        resource("db", "aws:rds/instance:Instance", inputs={"instanceClass": "db.t4g.medium"}, protect=True),
        resource("pod", "kubernetes:core/v1:Service", inputs={"metadata": {"namespace": "trellis <x>"}}),
        resource("way", "aws:ec2/eip:Eip"),
    )
    said = texts(picture({shown.stack: shown}))
    assert f"{shown.stack} · 5 resources" in said
    assert "network" in said
    assert "2 × Bucket" in said
    assert "Instance db.t4g.medium" in said
    assert "namespace trellis <x>" in said
    circles = [
        found.get("fill") for found in ElementTree.fromstring(picture({shown.stack: shown})).iter(f"{SVG}circle")
    ]
    assert circles.count("#b91c1c") == 2  # one in the legend
    assert circles.count("#15803d") == 2


def test_arrows_lead_from_what_is_needed_and_no_shorter_way_is_drawn_twice():
    keys, network, cluster = part("keys", "k"), part("network", "n"), part("cluster", "c")
    network[1] = resource("n", urn=network[1].urn, parent=network[0].urn, depends_on=[keys[1].urn])
    cluster[1] = resource(
        "c", urn=cluster[1].urn, parent=cluster[0].urn, depends_on=[keys[1].urn, network[1].urn, "urn:unknown"]
    )
    frame = _frame(graph(*keys, *network, *cluster))
    assert frame.arrows == sorted([(keys[0].urn, network[0].urn), (network[0].urn, cluster[0].urn)])
    assert frame.boxes[keys[0].urn].x < frame.boxes[network[0].urn].x < frame.boxes[cluster[0].urn].x


@settings(max_examples=examples(20))
@given(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=40))
def test_no_box_lies_on_another_and_all_lie_in_their_frame_whatever_needs_what(needs):
    parts = {number: part(f"p{number}", "x") for number in range(15)}
    wanted = {number: [parts[other][1].urn for one, other in needs if one == number] for number in parts}
    resources = [
        one
        for number, (own, child) in parts.items()
        for one in (own, resource("x", urn=child.urn, parent=own.urn, depends_on=wanted[number]))
    ]
    frame = _frame(graph(*resources))
    boxes = list(frame.boxes.values())
    assert len(boxes) == 15
    for one, other in combinations(boxes, 2):
        apart = abs(one.x - other.x) >= 236 or one.y + one.height <= other.y or other.y + other.height <= one.y
        assert apart
    assert all(box.x + 236 <= frame.width and box.y + box.height <= frame.height for box in boxes)


def test_the_same_graphs_are_the_same_picture_and_an_empty_stack_has_one():
    shown = graph(*part("network", "a", "b"), *part("keys", "c"))
    assert picture({shown.stack: shown}) == picture({shown.stack: shown})
    assert f"{shown.stack} · 0 resources" in texts(picture({shown.stack: graph()}))
