"""A picture of what stacks hold and what leads to what, as SVG: drawn from their graphs, never by hand."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

from infra.exposure import protected, public
from infra.layout import Layer, StackName
from infra.recording import Graph, Resource

_BOX: Final = 236
_LINE: Final = 16
_TITLE: Final = 26
_GAP_X, _GAP_Y, _MARGIN = 64, 18, 22
_MOST_KINDS: Final = 8
_MOST_IN_COLUMN: Final = 6
_LETTERS: Final = 33
_SIZES: Final = ("instanceClass", "nodeType", "instanceType", "instanceTypes")
_TONES: Final = {"aws": "#fff4e5", "kubernetes": "#e8f0fe"}
_OTHER_TONE: Final = "#f3f4f6"
_ROWS: Final = ((Layer.EDGE,), (Layer.SINGLE, Layer.INFRA), (Layer.APPS, Layer.CLUSTER))
_REACHED, _GUARDED = "#b91c1c", "#15803d"
_LEGEND: Final = ((_REACHED, "reached from the internet"), (_GUARDED, "protected from deletion"))
_ARROWS: Final = "An arrow leads to what is made from it."
_LEGEND_WIDTH: Final = 640
# What ties others together is told last.
_TIES: Final = (
    "Alias",
    "Association",
    "Attachment",
    "Block",
    "Configuration",
    "Controls",
    "Entry",
    "Policy",
    "Role",
    "RoleBinding",
    "Route",
    "Rule",
    "Target",
    "Validation",
    "Versioning",
)


@dataclass(slots=True)
class Box:
    """A part of a stack: a component, a namespace, or what of a service has no component."""

    title: str
    resources: list[Resource] = field(default_factory=list)
    reached: int = 0
    guarded: int = 0
    x: float = 0
    y: float = 0

    def lines(self) -> Sequence[str]:
        """What it holds, the most first; what only ties it together comes after."""
        counted = Counter(_what(resource) for resource in self.resources if resource.custom)
        ordered = sorted(counted.items(), key=lambda item: (item[0].endswith(_TIES), -item[1], item[0]))
        shown = [f"{many} × {what}" if many > 1 else what for what, many in ordered[:_MOST_KINDS]]
        return [*shown, *([f"and {len(ordered) - _MOST_KINDS} more"] if len(ordered) > _MOST_KINDS else [])]

    @property
    def height(self) -> int:
        return _TITLE + _LINE * len(self.lines()) + 10


def _what(resource: Resource) -> str:
    kind = resource.type.rpartition(":")[2]
    size = next((resource.inputs[key] for key in _SIZES if resource.inputs.get(key)), None)
    if size is None:
        return kind
    return f"{kind} {', '.join(map(str, size)) if isinstance(size, list) else size}"


@dataclass(frozen=True, slots=True)
class Frame:
    """A stack with its parts, placed from its own corner."""

    stack: str
    boxes: Mapping[str, Box]
    arrows: Sequence[tuple[str, str]]
    resources: int

    @property
    def width(self) -> float:
        heading = 9.0 * len(self._heading()) + _MARGIN
        return max(heading, *(box.x + _BOX for box in self.boxes.values()), 0.0) + _MARGIN

    @property
    def height(self) -> float:
        return max((box.y + box.height for box in self.boxes.values()), default=_TITLE + _MARGIN) + _MARGIN

    def _heading(self) -> str:
        return f"{self.stack} · {self.resources} resources"

    def draw(self, left: float, top: float) -> Iterator[str]:
        yield (
            f'<rect x="{left:g}" y="{top:g}" width="{self.width:g}" height="{self.height:g}" rx="10" fill="#ffffff" '
            'stroke="#9ca3af"/>'
        )
        yield _text(left + _MARGIN, top + 26, self._heading(), size=15, bold=True)
        for before, after in self.arrows:
            yield _arrow(self.boxes[before], self.boxes[after], left, top)
        for box in self.boxes.values():
            yield from _drawn(box, left, top)


def picture(graphs: Mapping[str, Graph]) -> str:
    """The stacks in rows: what joins regions, what clusters stand on, what runs in them. The same graphs, the same
    text."""
    frames = {name: _frame(graph) for name, graph in graphs.items()}
    parts, width, top = list[str](), 0.0, float(_MARGIN)
    for layers in _ROWS:
        row = [frame for name, frame in frames.items() if StackName.parse(name).layer in layers]
        left = float(_MARGIN)
        for frame in row:
            parts += frame.draw(left, top)
            left += frame.width + _MARGIN
        width = max(width, left)
        top += max((frame.height + _MARGIN for frame in row), default=0)
    parts += _legend(top + 8)
    width, height = max(width, _LEGEND_WIDTH), top + _MARGIN + 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" font-family="Helvetica, Arial, sans-serif">\n'
        '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#6b7280"/></marker></defs>\n'
        f'<rect width="{width:g}" height="{height:g}" fill="#f9fafb"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _legend(y: float) -> Iterator[str]:
    x = float(_MARGIN)
    for colour, meaning in _LEGEND:
        yield f'<circle cx="{x + 5:g}" cy="{y - 4:g}" r="5" fill="{colour}"/>'
        yield _text(x + 16, y, meaning, size=12)
        x += 190
    yield _text(x, y, _ARROWS, size=12)


def _frame(graph: Graph) -> Frame:
    known = {resource.urn: resource for resource in graph.resources}
    reached, boxes, place = public(graph), dict[str, Box](), dict[str, str]()
    for resource in graph.resources:
        if resource.type.startswith("pulumi:"):
            continue
        key, title = _part(resource, known)
        box = boxes.setdefault(key, Box(title))
        box.resources.append(resource)
        box.reached += resource.urn in reached
        box.guarded += resource.custom and protected(resource)
        place[resource.urn] = key
    arrows = {
        (place[needed], place[resource.urn])
        for resource in graph.resources
        for needed in resource.depends_on
        if resource.urn in place and needed in place and place[needed] != place[resource.urn]
    }
    direct = _direct(arrows)
    _placed(boxes, direct)
    return Frame(graph.stack, boxes, direct, sum(resource.custom for resource in graph.resources))


def _part(resource: Resource, known: Mapping[str, Resource]) -> tuple[str, str]:
    """A key and a title: of the outermost component, or of the namespace or service where there is none."""
    top = resource
    while top.parent in known:
        top = known[top.parent]
    if not top.custom:
        kind = top.type.rpartition(":")[2]
        return top.urn, top.name if top.name.lower() == kind.lower() else f"{top.name} ({kind})"
    package, _, rest = top.type.partition(":")
    if package == "kubernetes":
        namespace = (top.inputs.get("metadata") or {}).get("namespace")
        return (f"namespace {namespace}",) * 2 if namespace else ("the whole cluster",) * 2
    service = f"{package} {rest.partition('/')[0]}"
    return service, service


def _direct(arrows: set[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """Without those that a longer way says, too."""
    after: dict[str, set[str]] = {}
    for one, other in arrows:
        after.setdefault(one, set()).add(other)

    def reaches(start: str, end: str) -> bool:
        seen, open_ = {start}, [other for other in after.get(start, ()) if other != end]
        while open_:
            here = open_.pop()
            if here not in seen:
                seen.add(here)
                open_ += after.get(here, ())
        return end in seen

    return sorted(arrow for arrow in arrows if not reaches(*arrow))


def _placed(boxes: Mapping[str, Box], arrows: Sequence[tuple[str, str]]) -> None:
    """In columns: each box right of those that it is made from. A column that is full goes on in the next."""
    before = {key: [one for one, other in arrows if other == key] for key in boxes}
    ranks: dict[str, int] = {}

    def rank(key: str, path: tuple[str, ...]) -> int:
        if key not in ranks:
            ranks[key] = max((rank(one, (*path, key)) + 1 for one in before[key] if one not in (*path, key)), default=0)
        return ranks[key]

    columns: dict[int, list[str]] = {}
    for key in sorted(boxes):
        columns.setdefault(rank(key, ()), []).append(key)
    x = float(_MARGIN)
    for _, keys in sorted(columns.items()):
        for first in range(0, len(keys), _MOST_IN_COLUMN):
            y = float(_MARGIN + _TITLE)
            for key in keys[first : first + _MOST_IN_COLUMN]:
                boxes[key].x, boxes[key].y = x, y
                y += boxes[key].height + _GAP_Y
            x += _BOX + _GAP_X


def _drawn(box: Box, left: float, top: float) -> Iterator[str]:
    x, y = left + box.x, top + box.y
    package = next((resource.type.partition(":")[0] for resource in box.resources if resource.custom), "")
    yield (
        f'<rect x="{x:g}" y="{y:g}" width="{_BOX}" height="{box.height}" rx="6" '
        f'fill="{_TONES.get(package, _OTHER_TONE)}" stroke="#6b7280"/>'
    )
    yield _text(x + 10, y + 18, _fitting(box.title, _LETTERS - 9), size=13, bold=True)
    marks = [(_REACHED, box.reached), (_GUARDED, box.guarded)]
    for number, (colour, many) in enumerate((colour, many) for colour, many in marks if many):
        right = x + _BOX - 30 - 34 * number
        yield f'<circle cx="{right:g}" cy="{y + 14:g}" r="5" fill="{colour}"/>'
        yield _text(right + 8, y + 18, str(many), size=11)
    for number, line in enumerate(box.lines()):
        yield _text(x + 10, y + _TITLE + 10 + _LINE * number, _fitting(line, _LETTERS), size=12)


def _arrow(before: Box, after: Box, left: float, top: float) -> str:
    forward = after.x > before.x
    x1, x2 = (before.x + _BOX, after.x - 2) if forward else (before.x + _BOX, after.x + _BOX + 2)
    y1, y2 = top + before.y + before.height / 2, top + after.y + after.height / 2
    x1, x2 = left + x1, left + x2
    bend1, bend2 = (x1 + 32, x2 - 32) if forward else (x1 + 32, x2 + 32)
    return (
        f'<path d="M{x1:g},{y1:g} C{bend1:g},{y1:g} {bend2:g},{y2:g} {x2:g},{y2:g}" fill="none" stroke="#6b7280" '
        'stroke-width="1.2" marker-end="url(#end)"/>'
    )


def _text(x: float, y: float, text: str, *, size: int, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}"{weight} fill="#111827">{escape(text)}</text>'


def _fitting(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
