"""Work in the background: leads that wait for a worker are users who wait."""

from collections.abc import Sequence

from alerts.expressions import number, too_many
from alerts.model import Alert, Group, Severity, Site, Team
from alerts.windows import HOUR

_BOARD = "trellis-jobs"
_AGE_S = 900


def jobs(site: Site) -> Sequence[Group]:
    return (Group("jobs", [_stuck(site), _waiting(site), _piling(site), _failing(site)]),)


def deep(site: Site) -> int:
    """As many jobs as the phase has leads in an hour of a working day of eight; 100 at least."""
    return max(100, site.phase.load.leads_per_month // (30 * 8))


def _age(site: Site) -> str:
    return number(_AGE_S / site.pace.divisor)


def _stuck(site: Site) -> Alert:
    finished = f"(sum(increase(trellis_jobs_finished_total[{site.pace(_AGE_S)}])) or vector(0))"
    return Alert(
        name="JobsStuck",
        expr=f"max(trellis_jobs_oldest_age_seconds) > {_age(site)} and {finished} == 0",
        hold_s=300,
        severity=Severity.PAGE,
        team=Team.API,
        summary="Jobs wait for {{ $value | humanizeDuration }} and none has ended in 15 minutes",
        description=(
            "Leads get no decision while this lasts, and the time to answer counts only what is answered. See whether "
            "workers run, and whether they reach the database."
        ),
        dashboard=_BOARD,
    )


def _waiting(site: Site) -> Alert:
    return Alert(
        name="JobsWaiting",
        expr=f"max by (queue) (trellis_jobs_oldest_age_seconds) > {_age(site)}",
        hold_s=300,
        severity=Severity.TICKET,
        team=Team.API,
        summary="A job in the queue {{ $labels.queue }} waits for {{ $value | humanizeDuration }}",
        description=(
            "Either more comes in than workers can do, or one kind of job holds the others up. See the depth of the "
            "queue and how long its jobs take."
        ),
        dashboard=_BOARD,
    )


def _piling(site: Site) -> Alert:
    return Alert(
        name="JobsPilingUp",
        expr=f"max by (queue) (trellis_jobs_queue_depth) > {deep(site)}",
        hold_s=1800,
        severity=Severity.TICKET,
        team=Team.API,
        summary="{{ $value }} jobs wait in the queue {{ $labels.queue }}",
        description=(
            "For half an hour more have waited than an hour of this phase's leads. See whether it is a batch that will "
            "pass, or workers that are too few or too slow."
        ),
        dashboard=_BOARD,
    )


def _failing(site: Site) -> Alert:
    return Alert(
        name="JobsFailing",
        expr=too_many(site, "trellis_jobs_finished_total", 'outcome="failed"', HOUR, line=0.05, least=3, by=["task"]),
        hold_s=0,
        severity=Severity.TICKET,
        team=Team.API,
        summary="{{ $value | humanizePercentage }} of the jobs {{ $labels.task }} fail for good",
        description=(
            "Their retries are used up; what they were to do is not done. See the errors of the job in the log, mend "
            "the cause, then start them again."
        ),
        dashboard=_BOARD,
    )
