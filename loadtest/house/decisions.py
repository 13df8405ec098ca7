"""Our own share of every answer and decision that asked a model, exactly, as the app wrote it down with each."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import psycopg

from loadtest.house.errors import HouseError

_NEWEST: Final = "SELECT coalesce(max(id), '') FROM decisions"
# An answer that a cache gave asked no model. Ids sort by the time of their making.
_SINCE: Final = "SELECT duration_ms - model_ms FROM decisions WHERE model_ms > 0 AND id > '{}'"


class Reading(Protocol):
    """Raises HouseError where it cannot be read."""

    def rows(self, query: str) -> Sequence[Any]: ...


@dataclass(frozen=True, slots=True)
class Server:
    """`where`: of psycopg, a login that sees every tenant."""

    where: str

    def rows(self, query: str) -> Sequence[Any]:
        try:
            with psycopg.connect(self.where, connect_timeout=10) as connection:
                return connection.execute(query.encode()).fetchall()
        except psycopg.Error as error:
            raise HouseError(f"The house's PostgreSQL does not tell its decisions: {error}") from error


@dataclass(frozen=True, slots=True)
class File:
    path: Path

    def rows(self, query: str) -> Sequence[Any]:
        try:
            with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=10)) as connection:
                return connection.execute(query).fetchall()
        except sqlite3.Error as error:
            raise HouseError(f"The house's database does not tell its decisions: {error}") from error


def newest(database: Reading) -> str:
    """The last decision's id, empty where there is none. Raises HouseError."""
    return str(database.rows(_NEWEST)[0][0])


def own_shares(database: Reading, since: str) -> Sequence[float]:
    """Seconds of each after that one, in no order; what a clock's step made negative is 0."""
    if not since.replace("_", "").isalnum() and since:
        raise ValueError(f"'{since}' is no id of a decision")
    return [max(0.0, float(row[0])) / 1000 for row in database.rows(_SINCE.format(since))]
