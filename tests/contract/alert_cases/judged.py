"""Quality, drift and anomalies."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.contract.alert_cases.app import says, split, timed
from tests.support.alert_cases import Case, four


def _answers(outcome: str, good: float, bad: float, minutes: int = 60) -> Mapping[str, str]:
    labels = 'pack="chat",cache="none",outcome="{}"'
    return split("trellis_answers_total", (labels.format("answered"), good), (labels.format(outcome), bad), minutes)


def _week(metric: str, good: str, bad: str, over: float, under: float) -> dict[str, Mapping[str, str]]:
    """Judgements of ten hours: some over the line, some under it, and only bad ones."""
    return {
        "fires": split(metric, (good, 100 - over), (bad, over), 600),
        "under": split(metric, (good, 100 - under), (bad, under), 600),
        "total": {f"{metric}{{{bad}}}": "_x30 5x600"},
        "idle": split(metric, (good, 0), (bad, 0), 600),
    }


JUDGED: dict[str, Any] = {"at": "10h", "every": "10m"}
QUALITY = (
    *four(
        "AnswersFailing",
        says(
            "AnswersFailing",
            "api",
            "trellis-agent",
            "60% of the turns of chat end without an answer",
            "A stream that breaks off was begun with status 200, so the availability of requests cannot see it. See "
            "the errors of models and retrieval.",
            severity="page",
            pack="chat",
        ),
        at="30m",
        fires=_answers("failed", 4, 6),
        under=_answers("failed", 51, 49),
        total=_answers("failed", 0, 6),
        total_summary="100% of the turns of chat end without an answer",
    ),
    *four(
        "AnswersRefused",
        says(
            "AnswersRefused",
            "business",
            "trellis-agent",
            "40% of the turns of chat are refused",
            "Users ask what the documents do not answer, or a guard is too strict. Read some of the refused questions; "
            "see whether retrieval finds less than before.",
            pack="chat",
        ),
        at="7h",
        every="10m",
        fires=_answers("refused", 6, 4, 500),
        under=_answers("refused", 71, 29, 500),
        total=_answers("refused", 0, 6, 500),
        total_summary="100% of the turns of chat are refused",
    ),
    *four(
        "BudgetRefusals",
        says(
            "BudgetRefusals",
            "business",
            "trellis-model",
            "1 runs refused in an hour: the tenant budget was spent",
            "Users of that tenant get no answers until its budget is raised or the day (UTC) ends; a single request "
            "that spends its own budget runs in circles. See the spending by pack.",
            scope="tenant",
        ),
        at="90m",
        fires={'trellis_budget_refusals_total{scope="tenant"}': "_x70 1x60"},
        under={'trellis_budget_refusals_total{scope="tenant"}': "4x120"},
        total={'trellis_budget_refusals_total{scope="tenant"}': "0+10x120"},
        total_summary="600 runs refused in an hour: the tenant budget was spent",
    ),
    *four(
        "RetrievalFailing",
        says(
            "RetrievalFailing",
            "data",
            "trellis-agent",
            "10% of retrievals fail",
            "Answers without evidence are refused, so users go without. See whether the vector store and the embedder "
            "answer.",
        ),
        at="30m",
        fires=split("trellis_retrieval_requests_total", ('result="found"', 9), ('result="error"', 1)),
        under=split("trellis_retrieval_requests_total", ('result="found"', 96), ('result="error"', 4)),
        total=split("trellis_retrieval_requests_total", ('result="found"', 0), ('result="error"', 9)),
        total_summary="100% of retrievals fail",
    ),
    *four(
        "IngestFailing",
        says(
            "IngestFailing",
            "data",
            "trellis-agent",
            "20% of documents could not be taken in",
            "Answers rest on the older content, or on none. Each document says why it failed: see whether it is the "
            "files, the embedder or the vector store.",
        ),
        at="90m",
        fires=split("trellis_ingest_documents_total", ('outcome="ready"', 8), ('outcome="failed"', 2), 120),
        under=split("trellis_ingest_documents_total", ('outcome="ready"', 91), ('outcome="failed"', 9), 120),
        total={'trellis_ingest_documents_total{outcome="failed"}': "_x60 3x60"},
        total_summary="100% of documents could not be taken in",
    ),
    *four(
        "DecisionAccuracyLow",
        says(
            "DecisionAccuracyLow",
            "business",
            "trellis-business",
            "25% of the judged decisions of leads were wrong",
            "By people and by outcomes, over 7 days. See which action is wrong most often, and whether a prompt, a "
            "model or the leads changed.",
            pack="leads",
        ),
        total_summary="100% of the judged decisions of leads were wrong",
        **_week(
            "trellis_decision_reviews_total", 'pack="leads",verdict="right"', 'pack="leads",verdict="wrong"', 25, 19
        ),
        **JUDGED,
    ),
    *four(
        "EscalationsUnnecessary",
        says(
            "EscalationsUnnecessary",
            "business",
            "trellis-business",
            "40% of the judged escalations were not necessary",
            "People's time goes to what the agent could have done, over 7 days. See why it escalates: low confidence, "
            "a rule, or missing evidence.",
        ),
        total_summary="100% of the judged escalations were not necessary",
        **_week("trellis_escalations_total", 'necessary="true"', 'necessary="false"', 40, 29),
        **JUDGED,
    ),
    *four(
        "SatisfactionLow",
        says(
            "SatisfactionLow",
            "business",
            "trellis-business",
            "40% of the judged answers of chat did not help",
            "By users, over 7 days. Read the answers they judged; see whether the evidence was missing or the answer "
            "did not use it.",
            pack="chat",
        ),
        total_summary="100% of the judged answers of chat did not help",
        **_week("trellis_answer_feedback_total", 'pack="chat",helpful="true"', 'pack="chat",helpful="false"', 40, 29),
        **JUDGED,
    ),
    *four(
        "FirstResponseSlow",
        says(
            "FirstResponseSlow",
            "business",
            "trellis-business",
            "20% of leads waited more than an hour for their first answer",
            "Over a day. See whether jobs waited, approvals were left lying, or answers were kept back.",
        ),
        fires=timed("trellis_first_response_seconds", "3600.0", "", 8, 2, 600),
        under=timed("trellis_first_response_seconds", "3600.0", "", 91, 9, 600),
        total=timed("trellis_first_response_seconds", "3600.0", "", 0, 2, 600),
        total_summary="100% of leads waited more than an hour for their first answer",
        **JUDGED,
    ),
    *four(
        "EffectsParked",
        says(
            "EffectsParked",
            "business",
            "trellis-agent",
            "1 writes to the outside may or may not have happened",
            "Each waits for a person who looks in the other system and says which; nothing repeats it until then. They "
            "are listed under /v1/effects and in the console.",
        ),
        at="30m",
        fires={'trellis_effects_parked{instance="a"}': "1x40", 'trellis_effects_parked{instance="b"}': "1x40"},
        under={'trellis_effects_parked{instance="a"}': "0x20 1x12 0x20"},
        total={'trellis_effects_parked{instance="a"}': "900x40"},
        total_summary="900 writes to the outside may or may not have happened",
        idle={'trellis_effects_parked{instance="a"}': "0x40"},
    ),
    *(
        case
        for name, line in (("poc", 5), ("small", 5), ("medium", 50), ("multi-region", 100))
        for case in four(
            "ApprovalsWaiting",
            says(
                "ApprovalsWaiting",
                "business",
                "trellis-agent",
                f"{line + 1} writes have waited for approval for an hour",
                "Leads and users wait for them. See who approves, and whether a tool asks for approval that need not.",
            ),
            sets=[name],
            at="70m",
            fires={'trellis_approvals_pending{instance="a"}': f"{line + 1}x80"},
            under={'trellis_approvals_pending{instance="a"}': f"{line}x80"},
            total={'trellis_approvals_pending{instance="a"}': "900x80"},
            total_summary="900 writes have waited for approval for an hour",
            idle={'trellis_approvals_pending{instance="a"}': "0x80"},
        )
    ),
)

DRIFTS = (
    (
        "DecisionConfidenceDrift",
        "decision_confidence",
        'pack="leads",',
        {"pack": "leads"},
        "How sure decisions of leads are",
        "A model or a prompt changed, or other leads come in.",
    ),
    (
        "LeadScoreDrift",
        "lead_score",
        "",
        {},
        "The scores of leads",
        "Another source of leads, or another model or prompt.",
    ),
    (
        "RetrievalScoreDrift",
        "retrieval_score",
        "",
        {},
        "How well documents fit questions",
        "Documents or the embedder changed, or users ask about something new.",
    ),
)


def _spread(name: str, labels: str, low: int, before: int, then: str) -> Mapping[str, str]:
    """100 values a sample, of which `before`, and from some time on `low`, are under 0.5 (`then`: samples of each)."""
    until, after = (int(part) for part in then.split("+"))
    turned = f"0+{before}x{until} {before * until + low}+{low}x{after}"
    every = f"0+100x{until + after + 1}"
    return {
        f'trellis_{name}_bucket{{{labels}le="0.5"}}': turned,
        f'trellis_{name}_bucket{{{labels}le="+Inf"}}': every,
        f"trellis_{name}_count{{{labels.rstrip(',')}}}": every,
    }


def _drifts() -> Iterator[Case]:
    """The shape turns a day (a week in the quiet phase) before it is looked at; that window has one old value left."""
    for alert, name, labels, said, what, first in DRIFTS:
        for sets, then, at, over, most in (
            (("small", "medium", "multi-region"), "480+60", "11d", "27.69%", "46.15%"),
            (("poc",), "720+340", "22d", "29.65%", "49.41%"),
        ):
            description = (
                "That share of the values lies on another side of a line than it did in the four weeks before. "
                f"{first} See a release or a new prompt version at the time when it began."
            )
            summary = f"{what} differs from the last weeks by"
            yield from four(
                alert,
                says(alert, "business", "trellis-business", f"{summary} {over}", description, **said),
                sets=sets,
                at=at,
                step="30m",
                every="2h",
                fires=_spread(name, labels, 80, 50, then),
                under=_spread(name, labels, 70, 50, then),
                total=_spread(name, labels, 100, 50, then),
                total_summary=f"{summary} {most}",
            )


def _weeks(series: str, usual: float, now: float) -> Mapping[str, str]:
    """27 days of what is usual in half an hour, and two days of something else."""
    return {series: f"0+{usual}x1296 {usual * 1296 + now}+{now}x100"}


REQUESTS = 'trellis_http_requests_total{job="trellis-api",method="POST",route="/v1/chat",status_class="2xx"}'
LEADS = 'trellis_leads_received_total{source="web_form"}'
SPENT = 'trellis_model_cost_usd_total{provider="main"}'
_HOUR = "what this hour usually has"
_TIME = "what is usual at this time of the week"
ANOMALIES = (
    (
        "RequestsFewer",
        "api",
        "trellis-api",
        "Requests are at {} of " + _HOUR,
        "The same hour of the last four weeks had at least three times as many. Those that do not arrive fail "
        "nowhere: see the load balancer, DNS, certificates, and the clients. It may also be a holiday.",
        (REQUESTS, 100),
        ((20, "20%"), 40, (0, "0%")),
    ),
    (
        "RequestsMore",
        "api",
        "trellis-api",
        "Requests are at {} of " + _HOUR,
        "The same hour of the last four weeks had a third at most. See which route and which tenant's limit: a "
        "campaign, a client that repeats itself, or abuse. See whether the pods still suffice.",
        (REQUESTS, 100),
        ((400, "400%"), 290, (9000, "9000%")),
    ),
    (
        "LeadsFewer",
        "business",
        "trellis-business",
        "Leads are at {} of " + _TIME,
        "The last four weeks had at least three times as many. See by source which one dried up: a form, a mailbox "
        "or an import that broke says nothing.",
        (LEADS, 10),
        ((2, "20%"), 4, (0, "0%")),
    ),
    (
        "LeadsMore",
        "business",
        "trellis-business",
        "Leads are at {} of " + _TIME,
        "The last four weeks had a third at most. See by source where they come from: a campaign, an import taken "
        "in twice, or a form found by robots.",
        (LEADS, 10),
        ((40, "400%"), 29, (900, "9000%")),
    ),
    (
        "CostUnusual",
        "business",
        "trellis-model",
        "Models cost {} of what this hour usually does",
        "More than three times the same hour of the last four weeks, and more than an hour's part of the budget. "
        "See the spending by pack and the tokens of a call: traffic, longer prompts, or a cache that misses.",
        (SPENT, 5),
        ((20, "400%"), 14, (450, "9000%")),
    ),
)


def _anomalies() -> Iterator[Case]:
    for alert, team, board, summary, description, (series, usual), (over, under, total) in ANOMALIES:
        yield from four(
            alert,
            says(alert, team, board, summary.format(over[1]), description),
            at="29d",
            step="30m",
            every="6h",
            fires=_weeks(series, usual, over[0]),
            under=_weeks(series, usual, under),
            total=_weeks(series, usual, total[0]),
            total_summary=summary.format(total[1]),
            idle=_weeks(series, 0, 0),
        )


CASES = (*QUALITY, *_drifts(), *_anomalies())
