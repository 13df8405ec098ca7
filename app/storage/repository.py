"""Rows of one tenant: every query of a pack goes through a repository that cannot forget the tenant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import InvalidInput, NotFound
from app.storage.base import TenantRow

Row = TypeVar("Row", bound=TenantRow)


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page, newest first; `next_cursor` is the id to continue after, None at the end."""

    items: Sequence[Row]
    next_cursor: str | None


class TenantRepository(Generic[Row]):
    """Reads and adds rows of `model` for one tenant. Never commits.

    A subclass names its `model` and the `noun` used in a not-found answer.
    """

    model: type[Row]
    noun: str

    def __init__(self, session: AsyncSession, tenant_id: str) -> None:
        self.session = session
        self.tenant_id = tenant_id

    def query(self, *where: ColumnElement[bool]) -> Select[Any]:
        """SELECT of the model, already held to the tenant."""
        return select(self.model).where(self.model.tenant_id == self.tenant_id, *where)

    def add(self, row: Row) -> Row:
        """Puts the row in the session, stamped with the repository's tenant whatever it carried."""
        row.tenant_id = self.tenant_id
        self.session.add(row)
        return row

    async def find(self, row_id: str) -> Row | None:
        return await self.first(self.model.id == row_id)

    async def get(self, row_id: str) -> Row:
        """Raises NotFound; another tenant's id is not found either."""
        row = await self.find(row_id)
        if row is None:
            raise self.not_found(row_id)
        return row

    async def take(self, row_id: str) -> Row:
        """`get`, as the row is now, and nobody else changes it until the transaction ends. Raises NotFound."""
        query = self.query(self.model.id == row_id).with_for_update(key_share=True)
        row: Row | None = (await self.session.scalars(query.execution_options(populate_existing=True))).one_or_none()
        if row is None:
            raise self.not_found(row_id)
        return row

    def not_found(self, row_id: str) -> NotFound:
        """The error that says so."""
        return NotFound(f"There is no {self.noun} '{row_id[:80]}'.")

    async def first(self, *where: ColumnElement[bool]) -> Row | None:
        row: Row | None = (await self.session.scalars(self.query(*where).limit(1))).first()
        return row

    async def all(self, *where: ColumnElement[bool], limit: int | None = None) -> Sequence[Row]:
        """Rows in id order (oldest first)."""
        rows: Sequence[Row] = (
            await self.session.scalars(self.query(*where).order_by(self.model.id).limit(limit))
        ).all()
        return rows

    async def page(self, *where: ColumnElement[bool], cursor: str | None = None, limit: int = 50) -> Page[Row]:
        """Newest first, after `cursor` (an id of this table); at most 200 rows.

        Raises InvalidInput for a limit outside 1-200 or a cursor that cannot be an id.
        """
        if not 1 <= limit <= 200:
            raise InvalidInput("'limit' must be between 1 and 200.")
        if cursor is not None and not (cursor.isascii() and cursor.replace("_", "").isalnum() and len(cursor) <= 64):
            raise InvalidInput("'cursor' is not one that a page of this list gave: leave it out to start over.")
        after = [self.model.id < cursor] if cursor else []
        query = self.query(*where, *after).order_by(self.model.id.desc()).limit(limit + 1)
        rows: list[Row] = list((await self.session.scalars(query)).all())
        return Page(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)
