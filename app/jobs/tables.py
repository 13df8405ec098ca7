"""The engine's tables that hold jobs and what they did, for whoever moves them to another database."""

from collections.abc import Sequence
from typing import Final

from dbos._schemas.system_database import SystemSchema
from sqlalchemy import Table

HAND_OVER: Final = (
    "UPDATE {table} SET status = 'ENQUEUED', started_at_epoch_ms = NULL "
    "WHERE status = 'PENDING' AND queue_name IS NOT NULL"
)
"""What the engine's recovery does with the jobs of a dead worker, for all jobs: any worker may take them now."""


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
