"""Is what users get any good? Shares of answers and decisions, and what waits for a person."""

from collections.abc import Iterator, Sequence
from functools import partial

from alerts.expressions import too_many, too_slow, total
from alerts.model import Alert, Group, Severity, Site, Team
from alerts.windows import DAY, HOUR, MINUTE

_WEEK = 7 * DAY
_ticket = partial(Alert, severity=Severity.TICKET)


def quality(site: Site) -> Sequence[Group]:
    return (
        Group("answers", [*_answers(site), *_knowledge(site)]),
        Group("judgement", list(_judged(site)), interval_s=120),
        Group("people", list(_people(site))),
    )


def _answers(site: Site) -> Iterator[Alert]:
    answers = "trellis_answers_total"
    yield Alert(
        name="AnswersFailing",
        expr=too_many(site, answers, 'outcome="failed"', 15 * MINUTE, line=0.5, least=5, by=["pack"]),
        hold_s=120,
        severity=Severity.PAGE,
        team=Team.API,
        summary="{{ $value | humanizePercentage }} of the turns of {{ $labels.pack }} end without an answer",
        description=(
            "A stream that breaks off was begun with status 200, so the availability of requests cannot see it. See "
            "the errors of models and retrieval."
        ),
        dashboard="trellis-agent",
    )
    yield _ticket(
        name="AnswersRefused",
        expr=too_many(site, answers, 'outcome="refused"', 6 * HOUR, line=0.3, least=10, by=["pack"]),
        hold_s=600,
        team=Team.BUSINESS,
        summary="{{ $value | humanizePercentage }} of the turns of {{ $labels.pack }} are refused",
        description=(
            "Users ask what the documents do not answer, or a guard is too strict. Read some of the refused questions; "
            "see whether retrieval finds less than before."
        ),
        dashboard="trellis-agent",
    )
    yield _ticket(
        name="BudgetRefusals",
        expr=f"{total(site, 'trellis_budget_refusals_total', HOUR, 'scope')} > 0.5",
        hold_s=0,
        team=Team.BUSINESS,
        summary='{{ $value | printf "%.0f" }} runs refused in an hour: the {{ $labels.scope }} budget was spent',
        description=(
            "Users of that tenant get no answers until its budget is raised or the day (UTC) ends; a single request "
            "that spends its own budget runs in circles. See the spending by pack."
        ),
        dashboard="trellis-model",
    )


def _knowledge(site: Site) -> Iterator[Alert]:
    yield _ticket(
        name="RetrievalFailing",
        expr=too_many(site, "trellis_retrieval_requests_total", 'result="error"', 15 * MINUTE, line=0.05, least=5),
        hold_s=120,
        team=Team.DATA,
        summary="{{ $value | humanizePercentage }} of retrievals fail",
        description=(
            "Answers without evidence are refused, so users go without. See whether the vector store and the embedder "
            "answer."
        ),
        dashboard="trellis-agent",
    )
    yield _ticket(
        name="IngestFailing",
        expr=too_many(site, "trellis_ingest_documents_total", 'outcome="failed"', HOUR, line=0.1, least=3),
        hold_s=0,
        team=Team.DATA,
        summary="{{ $value | humanizePercentage }} of documents could not be taken in",
        description=(
            "Answers rest on the older content, or on none. Each document says why it failed: see whether it is the "
            "files, the embedder or the vector store."
        ),
        dashboard="trellis-agent",
    )


def _judged(site: Site) -> Iterator[Alert]:
    yield _ticket(
        name="DecisionAccuracyLow",
        expr=too_many(site, "trellis_decision_reviews_total", 'verdict="wrong"', _WEEK, line=0.2, least=5, by=["pack"]),
        hold_s=0,
        team=Team.BUSINESS,
        summary="{{ $value | humanizePercentage }} of the judged decisions of {{ $labels.pack }} were wrong",
        description=(
            "By people and by outcomes, over 7 days. See which action is wrong most often, and whether a prompt, a "
            "model or the leads changed."
        ),
        dashboard="trellis-business",
    )
    yield _ticket(
        name="EscalationsUnnecessary",
        expr=too_many(site, "trellis_escalations_total", 'necessary="false"', _WEEK, line=0.3, least=5),
        hold_s=0,
        team=Team.BUSINESS,
        summary="{{ $value | humanizePercentage }} of the judged escalations were not necessary",
        description=(
            "People's time goes to what the agent could have done, over 7 days. See why it escalates: low confidence, "
            "a rule, or missing evidence."
        ),
        dashboard="trellis-business",
    )
    yield _ticket(
        name="SatisfactionLow",
        expr=too_many(site, "trellis_answer_feedback_total", 'helpful="false"', _WEEK, line=0.3, least=5, by=["pack"]),
        hold_s=0,
        team=Team.BUSINESS,
        summary="{{ $value | humanizePercentage }} of the judged answers of {{ $labels.pack }} did not help",
        description=(
            "By users, over 7 days. Read the answers they judged; see whether the evidence was missing or the answer "
            "did not use it."
        ),
        dashboard="trellis-business",
    )
    yield _ticket(
        name="FirstResponseSlow",
        expr=too_slow(site, "trellis_first_response_seconds", 3600, DAY, line=0.1, least=5),
        hold_s=0,
        team=Team.BUSINESS,
        summary="{{ $value | humanizePercentage }} of leads waited more than an hour for their first answer",
        description=("Over a day. See whether jobs waited, approvals were left lying, or answers were kept back."),
        dashboard="trellis-business",
    )


def waiting(site: Site) -> int:
    """Approvals that a few people can still see through: a tenth of the conversations that the phase carries."""
    return max(5, site.phase.load.concurrent_conversations // 10)


def _people(site: Site) -> Iterator[Alert]:
    yield _ticket(
        name="EffectsParked",
        expr="max(trellis_effects_parked) > 0",
        hold_s=900,
        team=Team.BUSINESS,
        summary="{{ $value }} writes to the outside may or may not have happened",
        description=(
            "Each waits for a person who looks in the other system and says which; nothing repeats it until then. They "
            "are listed under /v1/effects and in the console."
        ),
        dashboard="trellis-agent",
    )
    yield _ticket(
        name="ApprovalsWaiting",
        expr=f"max(trellis_approvals_pending) > {waiting(site)}",
        hold_s=3600,
        team=Team.BUSINESS,
        summary="{{ $value }} writes have waited for approval for an hour",
        description=(
            "Leads and users wait for them. See who approves, and whether a tool asks for approval that need not."
        ),
        dashboard="trellis-agent",
    )
