"""Colours that people with any sight tell apart on white: Okabe and Ito's for series, few others for states.

Okabe, Ito: Color Universal Design (2008), https://jfly.uni-koeln.de/color/
"""

from collections.abc import Mapping
from typing import Final

INK: Final = "#1f2933"
QUIET: Final = "#616e7c"
FAINT: Final = "#e4e7eb"
PAPER: Final = "#ffffff"
GROUND: Final = "#f5f7fa"
RED: Final = "#b42318"
AMBER: Final = "#b45309"
GREEN: Final = "#1b7f4d"
BLUE: Final = "#0b5fa5"
PURPLE: Final = "#6941c6"
SERIES: Final = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#7a5195",
    "#8c6d31",
    "#5c6b73",
    "#b5bd00",
    "#d55e00",
)

_NAMED: Final[Mapping[str, str]] = {
    "red": RED,
    "orange": AMBER,
    "yellow": AMBER,
    "amber": AMBER,
    "green": GREEN,
    "blue": BLUE,
    "purple": PURPLE,
    "text": INK,
    "gray": QUIET,
    "grey": QUIET,
    "transparent": PAPER,
    "white": PAPER,
    "black": INK,
}
_TINTS: Final[Mapping[str, str]] = {
    RED: "#fde8e6",
    AMBER: "#fdf0d5",
    GREEN: "#e3f4ea",
    BLUE: "#e3effa",
    PURPLE: "#eee9fb",
}


def colour(name: str) -> str:
    """A colour of Grafana's by its name (`red`, `semi-dark-orange`), as it is drawn here; hex codes stay."""
    if name.startswith("#"):
        return name
    return _NAMED.get(name.split("-")[-1].lower(), QUIET)


def tint(strong: str) -> str:
    """The light ground that goes with a strong colour."""
    return _TINTS.get(strong, GROUND)
