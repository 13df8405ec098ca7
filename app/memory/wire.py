"""Turns and talks as bytes."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson

from app.memory.base import Talk, Turn


def pack_turn(turn: Turn) -> bytes:
    return orjson.dumps(_turn(turn))


def turn_of(packed: bytes) -> Turn:
    return _turn_of(orjson.loads(packed))


def pack_talks(talks: Iterable[Talk]) -> bytes:
    rows = [[one.tenant_id, one.bot, one.user, list(map(_turn, one.turns)), one.summary] for one in talks]
    return orjson.dumps(rows)


def talks_of(packed: bytes) -> list[Talk]:
    """Raises ValueError for what is not of `pack_talks`."""
    try:
        return [_talk_of(*row) for row in orjson.loads(packed)]
    except (TypeError, AttributeError) as error:
        raise ValueError("these are no conversations") from error


def _turn(turn: Turn) -> list[Any]:
    return [turn.role, turn.text, turn.at]


def _turn_of(row: Any) -> Turn:
    role, text, at = row
    return Turn(role, text, datetime.fromisoformat(at))


def _talk_of(tenant_id: str, bot: str, user: str, turns: Any, summary: Any) -> Talk:
    told = (summary[0], datetime.fromisoformat(summary[1])) if summary else None
    return Talk(tenant_id, bot, user, tuple(map(_turn_of, turns)), told)
