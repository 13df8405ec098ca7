"""Many rows of made-up content in tables of PostgreSQL, written by the server itself."""

from collections.abc import Mapping

from sqlalchemy import JSON, Boolean, Column, Date, DateTime, Float, Integer, LargeBinary, Numeric, String, Table
from sqlalchemy.types import TypeEngine

from app.storage.base import Base
from app.storage.types import UtcDateTime
from tests.support.postgres import Node

BIG = "local"
"""Six of ten rows are this tenant's, three another's, the tenth one of a thousand small ones'."""
TENANT = f"CASE WHEN g % 10 < 6 THEN '{BIG}' WHEN g % 10 < 9 THEN 'globex' ELSE 'tenant' || g / 10 % 1000 END"
NAME = "row_{:012d}"
"""The id of a row by its number; where that is a multiple of ten, it is `BIG`'s."""


def numbered(number: str) -> str:
    """SQL of the id of the row with that number."""
    return f"'row_' || lpad(({number})::text, 12, '0')"


def one_of(*values: str, every: int = 10) -> str:
    """SQL of each in turn, for that many rows."""
    return f"(ARRAY[{', '.join(repr(str(value)) for value in values)}])[1 + g / {every} % {len(values)}]"


def fill(server: Node, database: str, table: Table, rows: int, given: Mapping[str, str]) -> None:
    """`given`: SQL of the columns that are not a plain function of the row's number `g`, from 1."""
    assert set(given) <= set(table.columns.keys())
    values = {column.name: given.get(column.name) or _value(column) for column in table.columns}
    columns = ", ".join(f'"{name}"' for name in values)
    server.do(
        # References are not followed: the rows that they name are made up too.
        "SET session_replication_role = replica; "
        f"INSERT INTO {table.name} ({columns}) SELECT {', '.join(values.values())} "
        f"FROM generate_series(1, {rows}) AS g",
        f"ANALYZE {table.name}",
        database=database,
    )


def _value(column: Column[object]) -> str:
    if column.name == "tenant_id":
        return TENANT
    if column.name == "id":
        return numbered("g")
    if isinstance(column.type, JSON) and _is_list(column):
        return "'[]'"
    sql = next(sql for kind, sql in _BY_TYPE if isinstance(_plain(column.type), kind))
    longest = getattr(column.type, "length", None)
    return f"left({sql}, {longest})" if longest else sql


def _is_list(column: Column[object]) -> bool:
    [model] = [mapper.class_ for mapper in Base.registry.mappers if mapper.local_table is column.table]
    return "list[" in str(model.__annotations__.get(column.name))


def _plain(kind: TypeEngine[object]) -> TypeEngine[object]:
    return kind.impl_instance if isinstance(kind, UtcDateTime) else kind


_BY_TYPE = (
    (String, "g || ' text'"),
    (Boolean, "g % 2 = 0"),
    (Integer, "g"),
    (Float, "0.5"),
    (Numeric, "0.5"),
    (DateTime, "now() - g * interval '1 second'"),
    (Date, "current_date - g / 10 % 400"),
    (LargeBinary, "''"),
    (JSON, "'{}'"),
)
