"""The engine's tables that hold jobs and what they did, for whoever moves them to another database."""

from collections.abc import Sequence
from typing import Final

from dbos._schemas.system_database import SystemSchema
from sqlalchemy import Table

JOBS: Final = SystemSchema.workflow_status.name
RUNNING: Final = "status = 'PENDING' AND queue_name IS NOT NULL"
_STARTS: Final = "CASE WHEN recovery_attempts > 0 THEN recovery_attempts - 1 ELSE 0 END"
_WAITS: Final = "status = 'ENQUEUED', owner_xid = NULL, started_at_epoch_ms = NULL"
HAND_OVER: Final = f"UPDATE {{table}} SET {_WAITS}, recovery_attempts = {_STARTS} WHERE {RUNNING}"  # noqa: S608
"""What the engine's recovery does with the jobs of a worker that ended, for all jobs: any worker may take them now, and
who ran them cannot write about them any more."""


def tables_of_jobs() -> Sequence[Table]:
    """Parents first. Not queues, schedules and versions, which every worker writes at its start; no heartbeats."""
    schema = SystemSchema
    return (
        schema.workflow_status,
        schema.workflow_input,
        schema.workflow_output,
        schema.operation_outputs,
        schema.workflow_events,
        schema.workflow_events_history,
        schema.notifications,
        schema.streams,
    )
