"""Tools from installed distributions: the entry points of the group `trellis.tools`.

An entry point names a callable that is given `app.pack.Ports` and returns `app.agent.tools.Tool`s. No tenant may use
one before somebody allows it (`trellis tools set NAME allow`).
"""

from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from app.agent.tools import Tool
from app.errors import ConfigError
from app.pack import Ports

GROUP: Final = "trellis.tools"


def plugin_tools(ports: Ports, taken: Collection[str]) -> tuple[Tool, ...]:
    """The tools of every plug-in, in the order of the plug-ins' names.

    Raises ConfigError naming the plug-in that does not load, gives back something else than tools, or whose tool has a
    name that is `taken` or another plug-in's.
    """
    owners = dict.fromkeys(taken, "Trellis")
    tools: list[Tool] = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        for tool in _loaded(point, ports):
            if tool.name in owners:
                raise ConfigError(
                    f"The plug-in {_called(point)} has a tool '{tool.name}', as {owners[tool.name]} has: "
                    f"rename it, or uninstall the plug-in."
                )
            owners[tool.name] = f"the plug-in {_called(point)}"
            tools.append(tool)
    return tuple(tools)


def _loaded(point: EntryPoint, ports: Ports) -> tuple[Tool, ...]:
    try:
        tools = tuple(point.load()(ports))
    except Exception as error:
        raise ConfigError(
            f"The plug-in {_called(point)} does not load ({type(error).__name__}: {error}): mend or uninstall it."
        ) from error
    wrong = next((tool for tool in tools if not isinstance(tool, Tool)), None)
    if wrong is not None:
        raise ConfigError(
            f"The plug-in {_called(point)} gave a {type(wrong).__name__} for a tool: mend or uninstall it."
        )
    return tools


def _called(point: EntryPoint) -> str:
    return f"'{point.name}' ({point.dist.name if point.dist else point.value})"
