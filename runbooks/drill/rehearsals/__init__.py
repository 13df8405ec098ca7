"""Every page that can be rehearsed; each module has one `REHEARSAL`."""

from runbooks.drill.rehearsal import Rehearsal
from runbooks.drill.rehearsals import (
    blue_green_rollback,
    certificate,
    cost_runaway,
    deploy,
    erase_a_person,
    flags,
    gpu_fault,
    index_rollback,
    key_abuse,
    point_in_time_restore,
    postgres_failover,
    promote_a_phase,
    provider_failover,
    qdrant_restore,
    queue_backlog,
    redis_resharding,
    region_evacuation,
    rotate_secrets,
    schema_downgrade,
)

REHEARSALS: tuple[Rehearsal, ...] = (
    schema_downgrade.REHEARSAL,
    index_rollback.REHEARSAL,
    blue_green_rollback.REHEARSAL,
    flags.REHEARSAL,
    provider_failover.REHEARSAL,
    cost_runaway.REHEARSAL,
    key_abuse.REHEARSAL,
    deploy.REHEARSAL,
    certificate.REHEARSAL,
    gpu_fault.REHEARSAL,
    region_evacuation.REHEARSAL,
    point_in_time_restore.REHEARSAL,
    postgres_failover.REHEARSAL,
    redis_resharding.REHEARSAL,
    qdrant_restore.REHEARSAL,
    erase_a_person.REHEARSAL,
    queue_backlog.REHEARSAL,
    rotate_secrets.REHEARSAL,
    promote_a_phase.REHEARSAL,
)
"""The five that CI rehearses first."""
