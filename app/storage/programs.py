"""Which programs run on the schema: written down with each revision, for programs that do not know that revision.

While a fleet is replaced, the old program and the new one run on one schema. So a change of shape takes two releases:
one that adds (expand; old programs run on it as before), and a later one that takes away what no running program uses
any more (contract). A revision expands unless its module says otherwise:

    oldest_program: str = "0007"

means that programs whose newest revision is older than 0007 do not run on this schema. They refuse to start on it;
take it only into a release that follows one with 0007.
"""

from collections.abc import Collection, Mapping
from typing import Any

from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import Column, Connection, String, Table, delete, exists, insert, inspect, select

from app.storage.base import Base
from app.storage.revisions import BASE, accepted

SINCE = "0005"
"""The revision that makes the table."""
PROGRAMS = Table("schema_programs", Base.metadata, Column("program", String(32), primary_key=True))
"""The programs that run on the schema as it is, each named by the newest revision that it knows."""


def accepts(connection: Connection, program: str) -> bool:
    """Whether the schema says that a program runs on it; False for one that is too old to say."""
    if not inspect(connection).has_table(PROGRAMS.name):
        return False
    return bool(connection.scalar(select(exists().where(PROGRAMS.c.program == program))))


def record(
    ctx: MigrationContext,
    step: MigrationInfo,
    heads: Collection[Any],  # noqa: ARG001
    run_args: Mapping[str, Any],  # noqa: ARG001
) -> None:
    """Called by Alembic in each revision's transaction, after it is recorded."""
    scripts = ctx.script
    present = step.destination_revision_ids
    if scripts is None or not present:
        return
    if SINCE not in {script.revision for script in scripts.iterate_revisions(present[0], BASE)}:
        return
    ctx.execute(delete(PROGRAMS))
    # One statement: the revision's locks are held until all of this is said.
    ctx.execute(insert(PROGRAMS).values([{"program": program} for program in accepted(scripts, present[0])]))
