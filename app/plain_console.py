"""Prints what others wrote: nothing in it steers the terminal."""

import re
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class PlainConsole(Console):
    """Tables and lines hold what others wrote (titles, errors, names): it is shown as it is, without the characters
    and the markup that would steer the terminal."""

    def __init__(self) -> None:
        super().__init__(markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control is None and _CONTROL.search(segment.text):
                yield Segment(_CONTROL.sub("", segment.text), segment.style)
            else:
                yield segment
