"""Where a promotion stands, and its end for good."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.errors import Conflict
from app.promotion.moving import COPIED
from app.promotion.side import Gate, Side
from app.promotion.tables import MovedTable


async def standing(here: Side, there: Side, tables: Sequence[MovedTable]) -> list[str]:
    """One line for each thing to know of the two sides."""
    lines = []
    for side in (here, there):
        if not await side.installed():
            lines.append(f"{side.name}: no promotion.")
            continue
        gate, pending = await side.gate(), await side.pending()
        writes = "takes writes" if gate is Gate.OPEN else f"takes no writes ({gate})"
        lines.append(f"{side.name}: {writes}; {pending} changes wait in its log.")
        lines += _copied(await side.state(), tables)
    return lines


def _copied(state: Mapping[str, Any], tables: Sequence[MovedTable]) -> Iterator[str]:
    noted = state.get(COPIED)
    if noted:
        under_way = f", {noted['table']} is under way" if noted["table"] else ""
        yield f"  {len(noted['done'])} of {len(tables)} tables are copied to it{under_way}."


async def finish(here: Side, there: Side) -> str:
    """The side that takes writes is as if there never was a promotion; the other one stays closed.

    Raises Conflict in the middle of a switch, while a promotion runs, or where nothing is to be ended.
    """
    async with here.alone(), there.alone():
        return await _finish(here, there)


async def _finish(here: Side, there: Side) -> str:
    gates = {side.name: await side.gate() for side in (here, there)}
    if not await here.installed() and not await there.installed():
        raise Conflict("There is no promotion to end.")
    if all(gate is not Gate.OPEN for gate in gates.values()):
        raise Conflict("Neither side takes writes: a switch was interrupted. Run the promotion again, it finishes it.")
    stays, goes = (here, there) if gates[here.name] is Gate.OPEN else (there, here)
    await stays.uninstall()
    if await goes.installed():
        await goes.retire()
    return f"The promotion has ended: {stays.name} takes writes, {goes.name} never does again."
