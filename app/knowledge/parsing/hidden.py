"""What a reader of an HTML page does not see, as far as its attributes tell.

Hidden text is a way to speak to the agent past the person who uploads the page. Style sheets are not followed: a
tab or an accordion hides its content by one, and scripts show it again.
"""

import re
from collections.abc import Mapping, Sequence

from selectolax.lexbor import LexborHTMLParser, LexborNode

_SUSPECTS = "[style], [hidden], [aria-hidden], font[color], font[size]"
_ZERO = re.compile(r"[-+]?0*\.?0*(?:px|pt|em|rem|%|vh|vw)?|[01](?:\.\d+)?(?:px|pt)")
_FAR = re.compile(r"-\d{3,}(?:\.\d+)?(?:px|pt|em|rem|%|vw)?")
_RGB = re.compile(r"rgba?\(\s*(\d+)[\s,]+(\d+)[\s,]+(\d+)(?:[\s,/]+([\d.]+%?))?\s*\)")
_SHORT_HEX = re.compile(r"#([0-9a-f])([0-9a-f])([0-9a-f])")
_NAMED = {"white": "#ffffff", "black": "#000000", "snow": "#fffafa", "ivory": "#fffff0"}
_WHITE = "#ffffff"
_NEAR = 24


def remove_hidden(page: LexborHTMLParser) -> None:
    """Takes the elements out that are not shown."""
    styled = bool(page.css("style, link[rel~=stylesheet]"))
    suspects = [node for node in page.css(_SUSPECTS) if node.tag not in ("html", "body")]
    remove([node for node in suspects if _not_shown(node) or _like_its_background(node, styled)])


def remove(nodes: Sequence[LexborNode]) -> None:
    """Takes nodes, given in the page's order, out of it: the inner ones first, as an outer one frees them."""
    for node in reversed(nodes):
        node.decompose()


def _not_shown(node: LexborNode) -> bool:
    attributes = node.attributes
    if attributes.get("hidden", "until-found") != "until-found" or attributes.get("aria-hidden") == "true":
        return True
    style = _style(node)
    return (
        style.get("display") == "none"
        or style.get("visibility") in ("hidden", "collapse")
        or _is_zero(style.get("opacity"))
        or _is_zero(style.get("font-size"))
        or (style.get("overflow") == "hidden" and any(_is_zero(style.get(side)) for side in ("width", "height")))
        or any(_FAR.fullmatch(style.get(side, "")) for side in ("left", "top", "text-indent", "margin-left"))
    )


def _is_zero(value: str | None) -> bool:
    return value is not None and _ZERO.fullmatch(value) is not None


def _style(node: LexborNode) -> Mapping[str, str]:
    declared = {}
    for declaration in (node.attributes.get("style") or "").lower().split(";"):
        name, _, value = declaration.partition(":")
        declared[name.strip()] = value.replace("!important", "").strip()
    return declared


def _like_its_background(node: LexborNode, styled: bool) -> bool:
    """Text in the colour of what it stands on; a page without style sheets stands on white."""
    colour = _colour(_style(node).get("color") or node.attributes.get("color"))
    if colour is None:
        return False
    if colour == "transparent":
        return True
    ground = _background(node) or (None if styled else _WHITE)
    return ground is not None and _near(colour, ground)


def _background(node: LexborNode) -> str | None:
    """The nearest background that an attribute declares, here or above."""
    above: LexborNode | None = node
    while above is not None:
        if above.is_element_node:
            style = _style(above)
            declared = style.get("background-color") or style.get("background") or above.attributes.get("bgcolor")
            if declared:
                return _colour(declared)
        above = above.parent
    return None


def _colour(value: str | None) -> str | None:
    """`#rrggbb`, `transparent`, or None for one that is not understood."""
    value = (value or "").strip().lower()
    if match := _RGB.fullmatch(value):
        if match[4] is not None and not float(match[4].rstrip("%") or 1):
            return "transparent"
        return "#" + "".join(f"{min(int(part), 255):02x}" for part in match.groups()[:3])
    if match := _SHORT_HEX.fullmatch(value):
        return "#" + "".join(part * 2 for part in match.groups())
    if re.fullmatch(r"#[0-9a-f]{6}", value) or value == "transparent":
        return value
    return _NAMED.get(value)


def _near(one: str, other: str) -> bool:
    if other == "transparent":
        return False
    pairs = ((int(one[place : place + 2], 16), int(other[place : place + 2], 16)) for place in (1, 3, 5))
    return all(abs(first - second) <= _NEAR for first, second in pairs)
