"""Models and the providers behind them: their errors, their pace, and what the app does about both."""

from collections.abc import Iterator, Sequence

from alerts.expressions import above, too_many, too_slow, total
from alerts.model import Alert, Group, Severity, Site, Team
from alerts.windows import MINUTE

CALLS = "trellis_model_call_duration_seconds"
_BOARD = "trellis-model"


def models(site: Site) -> Sequence[Group]:
    return (Group("models", [*_calls(site), *_resilience(site)]),)


def _calls(site: Site) -> Iterator[Alert]:
    targets = site.phase.targets
    promised, line = (targets.answer_p50_s, 0.5) if targets.answer_p99_s is None else (targets.answer_p99_s, 0.05)
    failed = 'outcome=~"error|timeout|rate_limited"'
    yield Alert(
        name="ModelErrors",
        expr=too_many(site, f"{CALLS}_count", failed, 15 * MINUTE, line=0.1, least=5, by=["provider"]),
        hold_s=300,
        severity=Severity.TICKET,
        team=Team.MODELS,
        summary="{{ $value | humanizePercentage }} of calls to {{ $labels.provider }} fail",
        description=(
            "Errors, time-outs and refusals for their rate, over 15 minutes. Routes with another provider still "
            "answer; the others fail their users. See the provider's status, then its limits."
        ),
        dashboard=_BOARD,
    )
    yield Alert(
        name="ModelSlow",
        expr=too_slow(site, CALLS, promised, 30 * MINUTE, line=line, least=5, by=["provider"], among=['outcome="ok"']),
        hold_s=300,
        severity=Severity.TICKET,
        team=Team.MODELS,
        summary=(
            "{{ $value | humanizePercentage }} of calls to {{ $labels.provider }} take longer than a whole answer may"
        ),
        description=(
            "Successful calls of the last 30 minutes against the time that the phase promises for an answer. See the "
            "size of prompts and answers, then the provider."
        ),
        dashboard=_BOARD,
    )
    yield Alert(
        name="ModelFirstTokenSlow",
        expr=too_slow(
            site,
            "trellis_model_first_token_seconds",
            targets.answer_p50_s,
            30 * MINUTE,
            line=0.5,
            least=10,
            by=["provider"],
        ),
        hold_s=300,
        severity=Severity.TICKET,
        team=Team.MODELS,
        summary="{{ $value | humanizePercentage }} of streamed calls to {{ $labels.provider }} begin too late",
        description=(
            "Their first piece comes after the time in which half of the answers are promised. See the provider's "
            "queue, and prompts that grew."
        ),
        dashboard=_BOARD,
    )


def _resilience(site: Site) -> Iterator[Alert]:
    fallbacks = total(site, "trellis_model_fallbacks_total", 30 * MINUTE, "route")
    yield Alert(
        name="ModelFallbacks",
        expr=above(fallbacks, total(site, f"{CALLS}_count", 30 * MINUTE, "route"), 0.1, 5),
        hold_s=300,
        severity=Severity.TICKET,
        team=Team.MODELS,
        summary="{{ $value | humanizePercentage }} of calls of the route {{ $labels.route }} go on to another provider",
        description=(
            "Users are answered by a second choice, which may cost more or know less. See why the first provider of "
            "the route fails."
        ),
        dashboard=_BOARD,
    )
    withheld = 'trellis_model_retries_total{result="withheld"}'
    yield Alert(
        name="ModelRetriesWithheld",
        expr=f"{total(site, withheld, 15 * MINUTE, 'provider')} > 4.5",
        hold_s=0,
        severity=Severity.TICKET,
        team=Team.MODELS,
        summary='{{ $value | printf "%.0f" }} calls to {{ $labels.provider }} were not tried again',
        description=(
            "Their provider's retry budget was spent, so that retries would not make its trouble worse. So many "
            "failures are no accident: see the provider's errors."
        ),
        dashboard=_BOARD,
    )
    yield Alert(
        name="BreakerOpen",
        expr=f"max by (name) (max_over_time(trellis_breaker_state[{site.pace(300)}])) == 2",
        hold_s=600,
        severity=Severity.TICKET,
        team=Team.MODELS,
        summary="The breaker of {{ $labels.name }} opens again and again",
        description=(
            "It was open at some time in every 5 minutes of the last 15: calls of this provider or tool are refused at "
            "once. See what it answers when it is tried."
        ),
        dashboard=_BOARD,
    )
